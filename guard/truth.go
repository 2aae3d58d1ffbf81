package guard

import (
	"context"
	"strings"

	"regsweep/storage/layout"
)

// Some registries keep what is alive in a database. The links in the storage then say
// too little, and a removal by them loses images.

const (
	databaseHeader = "Gitlab-Container-Registry-Database-Enabled"
	harborRealm    = "harbor-registry-basic-realm"
	harborService  = "harbor-registry"

	databaseMeans = "GitLab's metadata database says what is alive, and not the storage"
	harborMeans   = "Harbor's database has tags that the storage lacks"
)

// Signs reports whether another source of truth refuses a removal, by what config.yml
// and the storage say. It asks no registry, and is for runs that remove nothing.
func Signs(ctx context.Context, o Options) (refusal Verdict, refused bool) {
	p := &proof{options: o}
	p.readTruth(ctx)
	if len(p.grounds) == 0 {
		return Verdict{}, false
	}
	return p.verdict(), true
}

// readTruth looks for the signs that need no registry.
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

// judgeTruth weighs the signs in the answers of an address, whatever it serves.
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

// refuseHarbor refuses the removal of untagged manifests: Harbor has tags of its own.
// Without that, what the storage alone knows is garbage there too.
func (p *proof) refuseHarbor(subject, check, seen string) {
	if !p.options.DeleteUntagged || p.options.RootsGiven || p.options.KeepDigestsGiven {
		p.add(Note, subject, check, seen, harborMeans)
		return
	}
	p.add(Against, subject, check, seen, harborMeans+", and their manifests look untagged here")
	p.refuse(ByOtherTruth, harborMeans+", and without a list of them untagged manifests are kept ("+subject+": "+check+" "+seen+")", remedy{giveKeepDigests, ""})
}

// isEnabled reads the header.
func isEnabled(value string) bool { return strings.EqualFold(strings.TrimSpace(value), "true") }
