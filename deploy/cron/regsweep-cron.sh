#!/bin/sh
# Make a registry read-only, collect its garbage, and make it writable again.
#
#   regsweep-cron.sh SETTINGS
#
# SETTINGS is a shell script that says which registry and how: see regsweep-cron.conf.
# Put both where root can change them and nobody else. The line in /etc/cron.d/regsweep is
#
#   0 3 * * *  root  /usr/local/sbin/regsweep-cron.sh /etc/regsweep-cron.conf
#
# Without a problem the script prints nothing, so that cron sends no mail. Its exit codes
# are those of regsweep, 1 if a function of SETTINGS failed, and 6 if the registry could not
# be made writable again.
#
# The registry is made writable again however the script ends: success, a refusal, a
# failure, Ctrl-C, SIGTERM, SIGHUP. After SIGKILL or a loss of power it is still read-only.
# Then the next run makes it writable, or you run what the function writable does.
# shellcheck disable=SC2317 # traps call the functions that are never reached otherwise
set -u
PATH=$PATH:/usr/local/sbin:/usr/local/bin

say() { printf '%s\n' "regsweep-cron: $*" >&2; }

if [ $# -ne 1 ] || [ ! -r "$1" ]; then
	say "usage: regsweep-cron.sh SETTINGS, a file that can be read"
	exit 2
fi
regsweep=regsweep
target=
proof=
untagged=
collect='--max-delete 30%'
wait_seconds=900
before_writable() { :; }
read_only() { say "the settings have no function read_only"; return 1; }
writable() { say "the settings have no function writable"; return 1; }
case $1 in
*/*) settings=$1 ;;
*) settings=./$1 ;;
esac
# shellcheck source=/dev/null
. "$settings" || {
	say "the settings $1 end with an error: their last command must succeed"
	exit 2
}
set +e # the settings may have set it

for tool in flock setsid; do
	command -v "$tool" >/dev/null || {
		say "$tool is missing: install it (package util-linux)"
		exit 2
	}
done

# Only one run at a time. A run that was killed does not hold the lock, but its regsweep
# does until it ends.
exec 9<"$settings"
if ! flock -n 9; then
	say "another run with $settings is not over yet"
	exit 5
fi

# What the functions and check print is shown only if they fail.
log=$(mktemp) || log=/dev/null # on a full disk
closed=  # set once the registry may be read-only
running= # set while regsweep runs

finish() {
	code=$?
	trap '' INT TERM HUP QUIT # what follows is not interrupted
	if [ -n "$closed" ]; then
		act before_writable
		[ "$acted" -eq 0 ] || [ "$code" -ne 0 ] || code=1
		act writable
		try=1
		while [ "$acted" -ne 0 ] && [ "$try" -lt 5 ]; do
			sleep "$try"
			act writable
			try=$((try + 1))
		done
		if [ "$acted" -ne 0 ]; then
			say "THE REGISTRY IS STILL READ-ONLY: pulls work, pushes do not. Make it writable by hand."
			code=6
		fi
	fi
	[ "$log" = /dev/null ] || rm -f "$log"
	exit "$code"
}

interrupted() {
	trap '' INT TERM HUP QUIT
	say "interrupted by SIG$1"
	if [ -n "$running" ]; then
		# regsweep waits for the removals that it has begun, and reports them.
		kill -TERM "$!" 2>/dev/null
		wait "$!"
	fi
	exit 130
}

trap finish EXIT
for signal in INT TERM HUP QUIT; do
	# shellcheck disable=SC2064 # the name of the signal is meant
	trap "interrupted $signal" "$signal"
done
trap '' PIPE

# act runs a function of the settings, which ends at the first command that fails. What it
# starts does not hold the lock. Call it as a command of its own: in a condition the shell
# ignores set -e.
act() {
	(
		set -e
		"$1"
	) 9<&- >"$log" 2>&1
	acted=$?
	if [ "$acted" -ne 0 ]; then
		cat "$log" >&2
		say "$1 failed with exit code $acted"
	fi
}

# run runs a command and lets a signal interrupt it at once. In a session of its own the
# command gets no Ctrl-C from the terminal, and so one signal only.
run() {
	running=1
	setsid "$@" &
	wait_for
}

# run_logged is the same with the output in the log. It redirects the command alone: an
# interruption is reported by this shell, and must not be.
run_logged() {
	running=1
	setsid "$@" >"$log" 2>&1 &
	wait_for
}

wait_for() {
	wait "$!"
	result=$?
	running=
	return "$result"
}

# check asks whether something could be removed now. Its flags are added.
check() {
	# shellcheck disable=SC2086 # flags are separated by spaces
	run_logged "$regsweep" check "$@" $untagged $proof "$target"
}

# lasting reports whether the check was refused for one of these reasons.
lasting() {
	[ "$result" -eq 3 ] && grep -Eq "\"by\": \"($1)\"" "$log"
}

# give_up shows what is wrong, and ends with the code of the last check.
give_up() {
	code=$result
	check
	cat "$log" >&2
	say "$1"
	exit "$code"
}

# The settings are checked before anything is done to the registry. Code 3 is expected, since
# the registry is still writable. A pull-through cache may be about to be stopped.
check --json
if [ "$result" -ne 0 ] && [ "$result" -ne 3 ] || lasting 'other_truth|other_storage'; then
	give_up "the registry was left as it is: regsweep check ended with $result"
fi

closed=1
act read_only
[ "$acted" -eq 0 ] || exit 1

deadline=$(($(date +%s) + wait_seconds))
pause=2
until check --json; do
	if [ "$result" -ne 3 ] || lasting 'other_truth|other_storage|proxy' || [ "$(date +%s)" -ge "$deadline" ]; then
		give_up "nothing was removed: after read_only, regsweep check ended with $result (wait_seconds=$wait_seconds)"
	fi
	# Each check lists the repositories, which takes many requests to a large bucket.
	run sleep "$pause"
	[ "$pause" -ge 30 ] || pause=$((pause * 2))
done

# shellcheck disable=SC2086
run "$regsweep" gc --quiet --yes $untagged $collect $proof "$target"
exit "$result"
