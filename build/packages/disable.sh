#!/bin/sh
# Before a removal, but not before an upgrade ($1 is upgrade for dpkg, 1 for rpm): no window begins any
# more. A window that is open goes on to its end.
set -e
case ${1:-} in
remove | 0)
	if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
		systemctl disable --now regsweep-window.timer || true
		systemctl disable regsweep-recover.service || true
	fi
	;;
esac
