package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/servertest"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const (
	day = 24 * time.Hour
	mib = int64(1 << 20)
)

// webPage is a page in a real browser. The test fails if the page requests something, or if the browser
// reports an error in it.
type webPage struct {
	*testing.T
	ctx context.Context

	mu     sync.Mutex
	faults []string
}

// openPage opens a file in a headless browser.
func openPage(t *testing.T, file string, width, height int64) *webPage {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		servertest.Lacks(t, "no browser: the Debian package chromium has one")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.WSURLReadTimeout(2*time.Minute))
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	p := &webPage{T: t, ctx: ctx}
	url := "file://" + file
	p.must(chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if address, _, _ := strings.Cut(e.Request.URL, "#"); address != url && !strings.HasPrefix(address, "data:") {
				p.fault("it requests %s", e.Request.URL)
			}
		case *runtime.EventExceptionThrown:
			p.fault("exception: %s", e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			p.fault("console: %s", e.Type)
		case *cdplog.EventEntryAdded:
			p.fault("%s: %s", e.Entry.Source, e.Entry.Text)
		case *page.EventJavascriptDialogOpening:
			p.fault("dialog: %s", e.Message)
		}
	}))
	for _, err := range []error{send(ctx, network.Enable, network.EnableParams{}), send(ctx, cdplog.Enable, cdp.Empty{})} {
		p.must(err)
	}
	phone := func(*emulation.SetDeviceMetricsOverrideParams, *emulation.SetTouchEmulationEnabledParams) {}
	if width < 500 {
		phone = chromedp.EmulateMobile
	}
	p.run(chromedp.EmulateViewport(width, height, phone), chromedp.Navigate(url), ready)
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, fault := range p.faults {
			t.Error(fault)
		}
	})
	return p
}

func (p *webPage) fault(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

// ready waits until the page has been built.
var ready = chromedp.WaitVisible(chromedp.CSS("html[data-ready=true] #map"))

// send sends a command of the protocol, and drops its result.
func send[P, R any](ctx context.Context, command cdp.Command[P, R], params P) error {
	_, err := chromedp.Call(ctx, command, params)
	return err
}

func (p *webPage) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *webPage) run(actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := p.limited()
	defer cancel()
	p.must(chromedp.Do(ctx, actions...))
}

// limited returns a context for one step: the page of a mistake may never get there.
func (p *webPage) limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.ctx, time.Minute)
}

// get runs an action that has a result.
func get[T any](p *webPage, action chromedp.Action[T]) T {
	p.Helper()
	ctx, cancel := p.limited()
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	p.must(err)
	return result
}

// press types keys into the element that has the focus.
func (p *webPage) press(keys ...string) {
	p.Helper()
	for _, key := range keys {
		p.run(chromedp.KeyEvent(key))
	}
}

// want waits until a JavaScript expression has a value.
func (p *webPage) want(expression string, want any) {
	p.Helper()
	wanted := fmt.Sprintf("%q", want)
	if _, isText := want.(string); !isText {
		wanted = fmt.Sprint(want)
	}
	_, err := chromedp.Run(p.ctx, chromedp.Poll[bool](fmt.Sprintf("(%s) === %s", expression, wanted), chromedp.WithPollingTimeout(20*time.Second)))
	if err != nil {
		p.Fatalf("%s is %v, want %v (%v)", expression, p.value(expression), want, err)
	}
}

func (p *webPage) value(expression string) any {
	p.Helper()
	return get(p, chromedp.Evaluate[any](expression))
}

// enter types a text into an input.
func (p *webPage) enter(css, text string) {
	p.Helper()
	p.run(chromedp.SendKeys(chromedp.CSS(css), text))
}

// click clicks on the first element that an XPath finds.
func (p *webPage) click(xpath string) {
	p.Helper()
	p.run(chromedp.Click(chromedp.Search(xpath)))
}

// media sets what the page is shown on.
func (p *webPage) media(medium, scheme string) {
	p.Helper()
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
	p.must(send(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: medium, Features: features}))
}

// screenshot saves the whole page: see go test -artifacts.
func (p *webPage) screenshot(name string) {
	p.Helper()
	p.must(os.WriteFile(filepath.Join(p.ArtifactDir(), name+".png"), get(p, chromedp.FullScreenshot(100)), 0o644))
}

const (
	cellNames   = `[...document.querySelectorAll("#map > button > b")].map(b => b.firstChild.textContent).join(" ")`
	crumbs      = `[...document.querySelectorAll("#crumbs > *")].map(e => e.textContent).join("/")`
	firstColumn = `[...document.querySelectorAll("#repositories tbody td:first-child")].map(e => e.textContent).join(" ")`
	focused     = `document.activeElement.querySelector("b")?.firstChild.textContent`
)

// writePage writes the page of a storage.
func (s *space) writePage(args ...string) string {
	s.Helper()
	file := filepath.Join(s.TempDir(), "audit.html")
	s.audit(append(args, "--html", file)...)
	return file
}

func TestPageOfAnAudit(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	base := sized{"base", 100 * mib}
	s.image("team/api", "v1", 400*day, base, sized{"api 1", 40 * mib})
	s.image("team/api", "v2", 2*day, base, sized{"api 2", 80 * mib}, sized{"api", 10 * mib})
	s.image("team/api", "v3", 20*day, base, sized{"api 3", 20 * mib}, sized{"api", 10 * mib})
	s.image("team/web", "latest", day, base, sized{"web", 60 * mib})
	s.image("tools", "", 50*day, sized{"untagged", 30 * mib})
	s.image("tools", "v1", 100*day, sized{"tools", 25 * mib})
	s.tree.LayerLink("tools", s.blob("garbage", 8*mib))
	s.blob("nobody's", 5*mib)
	s.tree.Write("repositories/team/web/_manifests/tags/broken/current/link", "?")
	s.tree.Write("repositories/team/web/_layers/sha256/stray", "?")
	p := openPage(t, s.writePage("--without", "team/api:v*"), 1280, 900)

	// The ladder.
	p.want(`document.querySelector("#headline dd").textContent`, "378.0 MiB")
	p.want(`[...document.querySelectorAll("#ladder .about + span")].map(e => e.textContent).join(" ")`,
		"logical stored live tagged untagged garbage uploads quarantine other total")
	p.want(`[...document.querySelectorAll("#ladder .by")].map(e => e.textContent).join(", ")`,
		"freed by, untagging, parts, parts, untagging, gc -m, gc, gc, purge, by hand, parts")
	p.want(`document.querySelector("#headline div:nth-child(3)").textContent`, "gc would free13.0 MiB")
	p.want(`Math.round(parseFloat(document.querySelector("#ladder i.garbage").style.width) * 378 / 100)`, 13)
	p.want(`Math.round(parseFloat(document.querySelector("#ladder i.garbage").style.left) * 378 / 100)`, 365)
	p.want(`[...document.querySelectorAll("#what-if .size")].map(e => e.textContent).join(", ")`, "13.0 MiB, 43.0 MiB, 163.0 MiB, 193.0 MiB")

	// The map: the area of a cell is its share of the unique bytes. All cells are everything that is kept.
	p.want(`document.querySelector("#detail").textContent.includes("unique 365.0 MiB")`, true)
	p.want(cellNames, "team tools")
	p.want(`(() => { const area = e => e.offsetWidth * e.offsetHeight, [team, tools] = document.querySelectorAll("#map > button"); return Math.round(area(team) / area(tools)); })()`, 6)
	p.click(`//div[@id="map"]/button[1]`)
	p.want(crumbs, "all repositories/team")
	p.want(cellNames, "api kept by several repositories web")
	p.want(focused, "api")
	p.press(kb.Enter)
	p.want(cellNames, "v2 v1 v3 kept by several")
	p.want(`document.querySelector("#map > button").className`, "cell age0")
	p.want(`document.querySelector("#map > button:nth-child(2)").className`, "cell age4")
	p.want(`document.querySelector("#map > button:nth-child(4)").className`, "cell age5")
	p.want(focused, "v2")
	p.want(`document.querySelector("#detail code").textContent`, "regsweep audit --without 'team/api:v2'")
	p.press(kb.ArrowRight)
	p.want(focused, "v1")
	p.press(kb.ArrowRight)
	p.want(focused, "v3")
	p.press(kb.ArrowDown)
	p.want(focused, "kept by several")
	p.press(kb.ArrowUp)
	p.want(focused, "v3")
	p.press(kb.ArrowLeft, kb.ArrowLeft)
	p.want(focused, "v2")
	p.press(kb.Enter) // a tag does not open
	p.want(crumbs, "all repositories/team/api")
	p.press(kb.Escape)
	p.want(crumbs, "all repositories/team")
	p.want(focused, "api")
	p.press(kb.ArrowRight)
	p.want(focused, "kept by several repositories")
	p.press(kb.ArrowRight)
	p.want(focused, "web")
	p.press(kb.Enter)
	p.want(crumbs, "all repositories/team/web")
	p.press(kb.Escape)
	p.want(crumbs, "all repositories/team")
	p.want(focused, "web") // where it was
	p.press(kb.Escape, kb.Escape)
	p.want(crumbs, "all repositories")
	p.want(focused, "team")
	p.run(chromedp.NavigateBack())
	p.want(crumbs, "all repositories/team")
	p.click(`//nav[@id="crumbs"]/a[1]`)
	p.want(crumbs, "all repositories")
	p.click(`//div[@id="modes"]/label[text()="shared"]`)
	p.want(cellNames, "team")
	p.want(`document.querySelector("#detail").textContent.includes("share of what is shared 100.0 MiB")`, true)
	p.value(`location.hash = "#/team/api"`)
	p.want(`[...document.querySelectorAll("#map > button")].map(e => e.ariaLabel).join("; ")`, "v2, 110.0 MiB; v3, 110.0 MiB; v1, 100.0 MiB")
	p.value(`location.hash = "#/"`)
	p.press(kb.ArrowRight)
	p.want(`document.querySelector("#modes :checked").parentElement.textContent`, "garbage")
	p.want(cellNames, "tools linked by nobody")

	// The tables.
	p.want(firstColumn, "team/api team/web tools")
	p.click(`//div[@id="repositories"]//th/button[text()="name"]`)
	p.want(firstColumn, "team/api team/web tools")
	p.click(`//div[@id="repositories"]//th/button[text()="name"]`)
	p.want(firstColumn, "tools team/web team/api")
	p.want(`document.querySelector("#repositories th[aria-sort]").ariaSort`, "descending")
	p.click(`//div[@id="repositories"]//th/button[text()="garbage"]`)
	p.want(`document.querySelector("#repositories tbody td").textContent`, "tools")
	p.want(`document.querySelectorAll("#blobs tbody tr").length === audit.blobs.length`, true)
	p.enter(`#blobs input`, "team/web")
	p.want(`[...document.querySelectorAll("#blobs tbody td:nth-child(2)")].slice(0, 2).map(e => e.textContent).join(", ")`, "100.0 MiB, 60.0 MiB")
	p.want(`document.querySelector("#problems-title").textContent`, "1 problem")
	p.want(`document.querySelector("#notes-title").textContent`, "1 note")
	p.want(`document.querySelector("#notes").textContent.includes("repositories/team/web/_layers/sha256/stray")`, true)
	p.click(`//div[@id="repositories"]//td/a[text()="tools"]`)
	p.want(crumbs, "all repositories/tools")
	p.want(`document.querySelectorAll("#growth figure").length`, 12)
	// All that is kept, each blob once, but for the 40 MiB that are older.
	p.want(`Math.round([...document.querySelectorAll("#growth span")].reduce((sum, e) => sum + (e.textContent.endsWith("MiB") ? parseFloat(e.textContent) : 0), 0))`, 325)
}

// Names come from the storage. A page never parses them as HTML.
func TestPageShowsHostileNamesAsText(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	const script, image = `<script>document.title="stolen"`, `"><img src=x onerror=alert(1)>`
	s.image("a"+script+"</script>", "v1"+image, day, sized{"one", 10 * mib}) // the slash makes two directories
	s.image(image, script+"'`$(id)", day, sized{"two", 30 * mib})
	s.image("<!--", "]]>", day, sized{"three", 5 * mib})
	p := openPage(t, s.writePage(), 1280, 900)
	p.want(`document.title.startsWith("Storage audit: /")`, true)
	p.want(`document.images.length`, 0)
	p.want(`document.scripts.length`, 2)
	p.want(firstColumn, image+" a"+script+"</script> <!--")
	p.click(`//div[@id="map"]/button[1]`)
	p.want(cellNames, "kept by several") // a repository of such a name is kept like damage, and its tag keeps it too
	p.click(`//div[@id="modes"]/label[text()="shared"]`)
	p.want(cellNames, script+"'`$(id) untagged")
	p.value(`document.querySelector("#map > button").focus()`)
	p.want(`document.querySelector("#detail code").textContent`, "regsweep audit --without '"+image+":"+script+`'\''`+"`$(id)'")
	p.want(crumbs, "all repositories/"+image)
	p.run(chromedp.Reload(), ready)
	p.want(crumbs, "all repositories/"+image)
	p.want(`document.images.length`, 0)

	// If a name were parsed after all, the policy would not let it run.
	p.value(`{ const s = document.createElement("script"); s.textContent = "document.title = 1"; document.body.append(s); }`)
	p.want(`document.title.startsWith("Storage audit: /")`, true)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.faults) != 1 || !strings.Contains(p.faults[0], "Content Security Policy") {
		t.Errorf("the browser reports %q and not one violation of the policy", p.faults)
	}
	p.faults = nil
}

func TestPageWithoutRepositories(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.blob("garbage", mib)
	p := openPage(t, s.writePage(), 1280, 900)
	p.want(`document.querySelector("#map p").textContent`, "Nothing here has unique bytes.")
	p.want(`document.querySelector("#repositories [role=status]").textContent`, "0 repositories")
	p.want(`document.querySelector("#growth-section").hidden`, true)
	p.click(`//div[@id="modes"]/label[text()="garbage"]`)
	p.want(cellNames, "linked by nobody")
}

func TestPageWithManyRepositories(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("10,000 repositories")
	}
	s := newSpace(t)
	manifest := s.image("group0/app0", "latest", day, sized{"base", 100 * mib})
	for i := 1; i < 10_000; i++ {
		name := fmt.Sprintf("group%d/app%d", i%70, i)
		if i%100 == 0 {
			s.image(name, "v1", time.Duration(i)*day/10, sized{name, int64(1+i%7) * mib})
			continue
		}
		s.tree.Write(imagetest.TagPath(name, "v1"), manifest.String())
	}
	for i := range 30 {
		s.tree.Write(imagetest.TagPath("group0/app0", fmt.Sprint("old", i)), manifest.String())
	}
	p := openPage(t, s.writePage(), 1280, 900)
	p.want(`document.querySelector("#headline div:nth-child(4) dd").textContent`, "10,000")
	p.want(`document.querySelector("#repositories [role=status]").textContent`, "1–25 of 10,000 repositories")
	p.want(`document.querySelectorAll("#repositories tbody tr").length`, 25)
	p.click(`//div[@id="repositories"]//button[@aria-label="next page"]`)
	p.want(`document.querySelector("#repositories [role=status]").textContent`, "26–50 of 10,000 repositories")
	p.enter(`#repositories input`, "app999")
	p.want(`document.querySelector("#repositories [role=status]").textContent`, "11 repositories")
	p.click(`//div[@id="repositories"]//th/button[text()="name"]`)
	p.want(`document.querySelector("#repositories tbody td").textContent`, "group19/app999")
	p.press(kb.Tab)
	p.click(`//div[@id="modes"]/label[text()="shared"]`)
	p.want(`document.querySelectorAll("#map > button").length`, 70)
	p.click(`//div[@id="map"]/button[1]`)
	p.want(`document.querySelectorAll("#map > button").length > 100`, true)
	p.value(`location.hash = "#/group0/app0"`)
	p.want(`document.querySelector("#map > button > b").firstChild.textContent`, "11 more tags")
	p.want(`document.querySelectorAll("*").length < 3000`, true)
}

// company is a storage with repositories of several sizes and ages.
func company(t *testing.T) *space {
	s, random := newSpace(t), rand.New(rand.NewPCG(1, 2))
	unique := 0
	layer := func(megabytes int) sized {
		unique++
		return sized{fmt.Sprint("layer ", unique), int64(megabytes) * mib}
	}
	for i, name := range strings.Fields(`base/debian base/python base/node team/api team/web team/worker team/billing data/etl data/train
		data/features infra/proxy infra/ci infra/ci/runner mobile/build shop/cart shop/checkout shop/catalog docs legacy/erp legacy/crm`) {
		base := sized{fmt.Sprint("base ", i%5), int64(40+60*(i%5)) * mib}
		newest := time.Duration(random.IntN(20)) * day
		if strings.HasPrefix(name, "legacy") {
			newest += 400 * day
		}
		dependencies := layer(5 + random.IntN(200))
		for n := 4 + random.IntN(12); n > 0; n-- {
			s.image(name, fmt.Sprintf("v1.%d", n), newest, base, dependencies, layer((1+random.IntN(90))*(1+i%4)))
			newest += time.Duration(random.IntN(25)) * day
			if n%3 == 0 {
				dependencies = layer(5 + random.IntN(200))
			}
		}
		s.image(name, "", newest, base, layer(10+random.IntN(90)))
		garbage := s.blob("garbage of "+name, int64(random.IntN(300))*mib)
		s.tree.LayerLink(name, garbage)
		s.tree.Age(imagetest.LayerPath(name, garbage), newest)
	}
	s.blob("garbage of nobody", 700*mib)
	return s
}

// The page fits on a phone and on paper, and follows the colours of the system.
func TestPageOnEachMedium(t *testing.T) {
	t.Parallel()
	s := company(t)
	file := s.writePage("--without", "legacy/**:*")
	p := openPage(t, file, 1280, 900)
	p.want(`getComputedStyle(document.body).backgroundColor`, "rgb(255, 255, 255)")
	p.screenshot("light")
	// docs/audit.png is this part of the page.
	p.run(chromedp.EmulateViewport(1120, 720))
	p.value(`document.querySelector("#about code").textContent = "/srv/registry"`)
	p.value(`[...document.querySelectorAll("main > *")].slice(2).forEach(e => e.remove())`)
	p.must(os.WriteFile(filepath.Join(t.ArtifactDir(), "audit.png"), get(p, chromedp.Screenshot(chromedp.CSS("body"))), 0o644))
	p.run(chromedp.Reload(), ready)
	p.run(chromedp.EmulateViewport(1280, 900))
	p.value(`location.hash = "#/team/web"`)
	p.want(crumbs, "all repositories/team/web")
	p.enter(`#repositories input`, "team")
	p.want(firstColumn, "team/billing team/web team/api team/worker")
	p.screenshot("zoomed")
	p.media("", "dark")
	p.want(`getComputedStyle(document.body).backgroundColor`, "rgb(20, 24, 28)")
	p.screenshot("dark")
	p.media("print", "dark") // paper is white
	p.want(`getComputedStyle(document.body).backgroundColor`, "rgb(255, 255, 255)")
	p.want(`getComputedStyle(document.querySelector("#repositories input")).display`, "none")
	p.must(os.WriteFile(filepath.Join(t.ArtifactDir(), "print.pdf"), get(p, chromedp.PrintToPDF(chromedp.PDFPrintBackground())), 0o644))

	phone := openPage(t, file, 390, 844)
	phone.want(`document.documentElement.scrollWidth`, 390)
	phone.want(`matchMedia("(max-width: 40rem)").matches`, true)
	phone.screenshot("phone")
	phone.click(`//div[@id="map"]/button[1]`)
	phone.want(crumbs, "all repositories/infra")
	phone.want(`document.documentElement.scrollWidth`, 390)
}
