package guard

import (
	"context"
	"strings"

	"regsweep/storage/layout"
)

// Some registries record in a database what is alive. The links in the storage are then
// incomplete, and a removal that uses only the links loses images.

const (
	databaseHeader = "Gitlab-Container-Registry-Database-Enabled"
	harborRealm    = "harbor-registry-basic-realm"
	harborService  = "harbor-registry"

	databaseMeans = "GitLab's metadata database says what is alive, and not the storage"
	harborMeans   = "Harbor's database has tags that the storage lacks"
)

// Signs reports whether config.yml or the storage shows that a database decides what is alive, so
// that a removal must be refused. It probes no registry. It is for runs that remove nothing.
func Signs(ctx context.Context, o Options) (refusal Verdict, refused bool) {
	p := &proof{options: o}
	p.readTruth(ctx)
	if len(p.reasons) == 0 {
		return Verdict{}, false
	}
	return p.verdict(), true
}

// readTruth finds the signs in config.yml and in the storage.
func (p *proof) readTruth(ctx context.Context) {
	if r := p.options.Config.Registry; r != nil {
		if r.Database != "" {
			p.refuseDatabase("config.yml", "database.enabled", r.Database)
		}
		if r.Realm == harborRealm {
			p.refuseHarbor("config.yml", "auth.htpasswd.realm", r.Realm)
		}
	}
	if found, known := p.beside(ctx, layout.GitLabDatabaseFile); known && found {
		p.refuseDatabase("storage", layout.GitLabDatabaseFile, "is there")
	}
}

// judgeTruth applies the signs in the answers of an address, whichever storage it serves.
func (p *proof) judgeTruth(f *finding) {
	if f.database != "" {
		p.refuseDatabase(f.subject, "header "+databaseHeader, f.database)
	}
	if f.harbor != "" {
		p.refuseHarbor(f.subject, "WWW-Authenticate", f.harbor)
	}
}

func (p *proof) refuseDatabase(subject, check, seen string) {
	if p.options.RootsGiven {
		p.add(Note, subject, check, seen, databaseMeans+"; your --roots say it")
		return
	}
	p.add(Against, subject, check, seen, databaseMeans)
	p.refuse(ByOtherTruth, databaseMeans+" ("+subject+": "+check+" "+seen+")", remedy{giveRoots, ""})
}

// refuseHarbor refuses if untagged manifests will be removed: Harbor has tags of its own. Without
// that removal, garbage in the storage is garbage for Harbor too.
func (p *proof) refuseHarbor(subject, check, seen string) {
	if !p.options.DeleteUntagged || p.options.RootsGiven || p.options.KeepDigestsGiven {
		p.add(Note, subject, check, seen, harborMeans)
		return
	}
	p.add(Against, subject, check, seen, harborMeans+", and their manifests look untagged here")
	p.refuse(ByOtherTruth, harborMeans+", and without a list of them untagged manifests are kept ("+subject+": "+check+" "+seen+")", remedy{giveKeepDigests, ""})
}

// isEnabled parses the value of databaseHeader.
func isEnabled(value string) bool { return strings.EqualFold(strings.TrimSpace(value), "true") }
