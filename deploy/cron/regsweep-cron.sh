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
# are those of regsweep, 1 if a function of SETTINGS failed, 6 if the registry could not be
# made writable again, and more than 128 if regsweep was killed by a signal.
#
# The registry is made writable again however the script ends: success, a refusal, a
# failure, Ctrl-C, SIGTERM, SIGHUP. After SIGKILL or a loss of power it is still read-only.
# Then the next run makes it writable, or you run what the function writable does.
# shellcheck disable=SC2317 # traps call the functions that are never reached otherwise
set -u
PATH=$PATH:/usr/local/sbin:/usr/local/bin

say() { printf '%s\n' "regsweep-cron: $*" >&2; }

# refuse ends the script before anything is done to the registry.
refuse() {
	say "$*"
	exit 2
}

[ $# -eq 1 ] || refuse "usage: regsweep-cron.sh SETTINGS"
[ -r "$1" ] || refuse "the settings $1 can't be read"
regsweep=regsweep
target=
proof=
untagged=
collect='--max-delete 30%'
wait_seconds=900
before_writable() { :; }
case $1 in
*/*) settings=$1 ;;
*) settings=./$1 ;;
esac
# shellcheck source=/dev/null
. "$settings" || refuse "the settings $1 end with an error: their last command must succeed"
set +eC # the settings may have set these

for name in read_only writable; do
	command -v "$name" >/dev/null || refuse "the settings $1 have no function $name: the registry was left as it is"
done
[ "$wait_seconds" -ge 0 ] 2>/dev/null || refuse "wait_seconds has to be a number of seconds, not \"$wait_seconds\": the registry was left as it is"
for tool in flock setsid; do
	command -v "$tool" >/dev/null || refuse "$tool is missing: install it (package util-linux)"
done

# Only one run at a time. A run that was killed does not hold the lock, but its regsweep
# does until it ends.
exec 9<"$settings"
if ! flock -n 9; then
	say "another run with $settings is not over yet"
	exit 5
fi

# What the functions and check print is shown only if they fail. The file for it is in memory
# if possible, since a full disk is a reason to run this. It has to take some output.
for directory in /dev/shm "${TMPDIR:-/tmp}"; do
	log=$(mktemp "$directory/regsweep-cron.XXXXXX") && head -c 65536 /dev/zero >"$log" && break
	rm -f "$log"
	log=
done 2>/dev/null
[ -n "$log" ] || refuse "neither /dev/shm nor ${TMPDIR:-/tmp} has room for a temporary file: export TMPDIR=DIRECTORY in the settings $1. The registry was left as it is"
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
			say "THE REGISTRY COULD NOT BE MADE WRITABLE: it may be read-only, or not run at all. Check it now, and do by hand what the function writable does."
			code=6
		fi
	fi
	rm -f "$log"
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

wait_for() {
	wait "$!"
	result=$?
	running=
	return "$result"
}

# check asks whether something could be removed now. The answer is in the log. It redirects
# regsweep alone: an interruption is reported by this shell, and must not be in the log.
check() {
	running=1
	# shellcheck disable=SC2086 # flags are separated by spaces
	setsid "$regsweep" check --json $untagged $proof "$target" >"$log" 2>&1 &
	wait_for
}

# lasting reports whether the check was refused for one of these reasons.
lasting() {
	[ "$result" -eq 3 ] && grep -Eq "\"by\": \"($1)\"" "$log"
}

# give_up shows what is wrong, and ends with the code of the last check.
give_up() {
	code=$result
	# shellcheck disable=SC2086
	run "$regsweep" check $untagged $proof "$target" >&2
	say "$1"
	exit "$code"
}

# The settings are checked before anything is done to the registry. Code 3 is expected, since
# the registry is still writable. A pull-through cache may be about to be stopped.
check
if [ "$result" -ne 0 ] && [ "$result" -ne 3 ] || lasting 'other_truth|other_storage'; then
	give_up "the registry was left as it is: regsweep check ended with $result"
fi

closed=1
act read_only
[ "$acted" -eq 0 ] || exit 1

since=$(date +%s)
pause=2
until check; do
	if [ "$result" -ne 3 ] || lasting 'other_truth|other_storage|proxy' || [ $(($(date +%s) - since)) -ge "$wait_seconds" ]; then
		give_up "nothing was removed: after read_only, regsweep check ended with $result (wait_seconds=$wait_seconds)"
	fi
	# Each check lists the repositories, which takes many requests to a large bucket.
	run sleep "$pause"
	[ "$pause" -ge 30 ] || pause=$((pause * 2))
done

# shellcheck disable=SC2086
run "$regsweep" gc --quiet --yes $untagged $collect $proof "$target"
if [ "$result" -gt 128 ] && [ "$result" -ne 130 ]; then # 130 is regsweep's own
	say "regsweep was killed by a signal (exit code $result): run the script again to remove the rest"
fi
exit "$result"
