#!/bin/sh
# After an installation or a removal: systemd reads its units again, if it runs here.
set -e
if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
