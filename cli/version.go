package cli

import (
	"runtime/debug"
	"strings"
)

// version is the module's version, or the revision that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, modified := "", ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision" && len(setting.Value) >= 12 && !strings.Contains(info.Main.Version, setting.Value[:12]):
			revision = " " + setting.Value[:12]
		case setting.Key == "vcs.modified" && setting.Value == "true" && !strings.HasSuffix(info.Main.Version, "+dirty"):
			modified = "+changes"
		}
	}
	return info.Main.Version + revision + modified + " " + info.GoVersion
}
