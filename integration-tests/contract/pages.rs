//! What becomes of the pages in a browser? A real Chromium, which is told to run everything and fetch everything that a
//! page asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::support::captured::{Captured, config, sandbox, small};
use crate::support::run::{self, Done};
use crate::support::{files, needs, program};

/// Everything that a name must not be taken for.
const EVIL: &str = "<script>document.title='taken'</script>\"onmouseover=\"document.title='taken'\"'><img src=http://pss-guard.test/x onerror=document.title='taken'>";

/// A node on which somebody is evil, and others are only careless.
fn node() -> Captured {
    let node = Captured::new();
    let lay = |id: &str, config: &Value| node.lay("containerd", id, config);
    lay("01", &config("shop", "web-0", "app", true));
    lay("02", &config("shop", "web-0", "logger", false));
    lay("03", &config("shop", EVIL, EVIL, false));
    lay("04", &config(EVIL, "x", "app", false));
    let mut image = config("kube-system", "kube-proxy", "proxy", false);
    image["annotations"]["io.kubernetes.cri.image-name"] = json!(EVIL);
    lay("05", &image);
    lay("sandbox-of-agent", &sandbox("ops", "agent", true));
    let events: Vec<String> = [("shop", "web-5d4f8c7b9d-x7k2p"), ("shop", EVIL), (EVIL, "javascript:alert(1)")]
        .iter()
        .enumerate()
        .flat_map(|(index, (namespace, pod))| {
            ["59f78bbb8c304038b9583a3e361c18d7", "bfd3048ad1b14533ad7ccd59d8062c5b", "8c3bdf9b0a95406cae882291b74b6d32"].map(|kind| {
                let now = std::time::UNIX_EPOCH.elapsed().expect("a clock that is set").as_micros();
                json!({
                    "__REALTIME_TIMESTAMP": (now - 1_000_000).to_string(), "MESSAGE_ID": kind, "MESSAGE": EVIL,
                    "PSS_LEVEL": "restricted", "PSS_VERSION": EVIL, "PSS_CONTROLS": format!("runAsNonRoot,{EVIL}"),
                    "PSS_FINDINGS": json!([{"control": "runAsNonRoot", "certainty": "violates", "detail": EVIL}]).to_string(),
                    "PSS_BECAUSE": EVIL, "PSS_NAMESPACE": namespace, "PSS_POD": pod, "PSS_CONTAINER": EVIL,
                    "PSS_CONTAINER_ID": index.to_string(), "PSS_IMAGE": EVIL,
                })
                .to_string()
            })
        })
        .collect();
    files::write(&node.root().join("var/log/pss-guard/decisions.jsonl"), &(events.join("\n") + "\n"));
    node
}

/// The pages of a node, by name.
fn pages(node: &Captured) -> [(&'static str, String); 2] {
    let page = |arguments: &[&str]| {
        let mut command = Command::new(program::binary());
        command.arg("--root").arg(node.root()).args(arguments).args(["--format", "html"]);
        run::run(&mut command).expect_success().stdout
    };
    [("scan", page(&["scan", "--level", "restricted"])), ("report", page(&["report"]))]
}

/// A browser that asks one proxy for everything that is not a file, and a list of what it was asked for.
struct Browser {
    profile: tempfile::TempDir,
    port: u16,
    asked: mpsc::Receiver<String>,
}

impl Browser {
    fn open() -> Self {
        let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = proxy.local_addr().expect("an address").port();
        let (tell, asked) = mpsc::channel();
        std::thread::spawn(move || {
            for client in proxy.incoming().flatten() {
                let mut head = [0; 512];
                let mut client = client;
                let read = client.read(&mut head).unwrap_or_default();
                let _ = tell.send(
                    String::from_utf8_lossy(&head[..read]).lines().next().unwrap_or_default().to_owned(),
                );
            }
        });
        Self { profile: tempfile::tempdir().expect("a temporary directory"), port, asked }
    }

    fn run(&self, width: u32, arguments: &[&str], page: &Path) -> Done {
        let mut command = Command::new("chromium");
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--hide-scrollbars",
        ]);
        // What the browser wants for itself is not the page's.
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        command.args([
            "--disable-default-apps",
            "--disable-extensions",
            "--metrics-recording-only",
            "--no-pings",
        ]);
        command.arg(format!("--user-data-dir={}", self.profile.path().display()));
        command.arg(format!("--proxy-server=127.0.0.1:{}", self.port)).arg("--proxy-bypass-list=<-loopback>");
        command.arg(format!("--window-size={width},2000")).args(arguments);
        run::run(command.arg(format!("file://{}", page.display()))).expect_success()
    }

    /// The page as it is once everything in it has run.
    fn dom(&self, width: u32, html: &str) -> String {
        let file = self.profile.path().join("page.html");
        std::fs::write(&file, html).expect("a file in a fresh directory");
        self.run(width, &["--dump-dom", "--virtual-time-budget=3000"], &file).stdout
    }

    /// What it was asked for that a page can have asked for.
    fn asked(&self) -> Vec<String> {
        self.asked.try_iter().filter(|line| line.contains("pss-guard.test")).collect()
    }
}

fn title(dom: &str) -> &str {
    let (_, rest) = dom.split_once("<title>").expect("a title");
    rest.split_once("</title>").expect("its end").0
}

/// The values of an attribute.
fn values<'d>(dom: &'d str, attribute: &str) -> Vec<&'d str> {
    let begin = format!(" {attribute}=\"");
    dom.split(begin.as_str())
        .skip(1)
        .filter_map(|rest| rest.split_once('"'))
        .map(|(value, _)| value)
        .collect()
}

#[test]
fn a_page_runs_nothing_fetches_nothing_and_its_links_lead_somewhere() {
    let test = "a_page_runs_nothing_fetches_nothing_and_its_links_lead_somewhere";
    if !needs::can_run(test, &["chromium"]) {
        return;
    }
    let browser = Browser::open();
    // That this browser would: the names of that node in a page that does not escape them.
    let naive = browser.dom(800, &format!("<!doctype html><title>naive</title><p>{EVIL}</p>"));
    assert_eq!(title(&naive), "taken", "a script in a page runs here: {naive}");
    assert!(!browser.asked().is_empty(), "and what a page asks for goes through this proxy");

    let node = node();
    for (name, html) in pages(&node) {
        let dom = browser.dom(800, &html);
        assert!(title(&dom).starts_with(&format!("pss-guard {name}: ")), "{name}: {}", title(&dom));
        assert_eq!(browser.asked(), Vec::<String>::new(), "{name} fetches something");
        for element in ["<script", "<img", "<link", "<iframe", "<object", "<form", "<base"] {
            assert!(!dom.contains(element), "{name} has {element}");
        }
        assert!(dom.contains("&lt;script&gt;document.title="), "{name} shows the name as it is");
        let handlers =
            dom.split('<').filter_map(|tag| tag.split_once('>')).filter(|(tag, _)| tag.contains(" on"));
        // Within quotes it is text.
        let handlers: Vec<_> =
            handlers.filter(|(tag, _)| tag.split('"').step_by(2).any(|part| part.contains(" on"))).collect();
        assert!(handlers.is_empty(), "{name}: {handlers:?}");
        let ids: BTreeSet<&str> = values(&dom, "id").into_iter().collect();
        let links = values(&dom, "href");
        assert!(!links.is_empty());
        for link in links {
            let target = link.strip_prefix('#').unwrap_or_else(|| panic!("{name} leads away: {link}"));
            assert!(ids.contains(target), "{name}: {link} leads nowhere");
        }
    }
}

#[test]
fn a_page_fits_a_phone_and_a_desk_and_its_colours_can_be_read() {
    let test = "a_page_fits_a_phone_and_a_desk_and_its_colours_can_be_read";
    if !needs::can_run(test, &["chromium"]) {
        return;
    }
    let browser = Browser::open();
    let node = node();
    // Measures the page from within, which the page itself forbids: its policy is left out for that.
    let measure = "<script>addEventListener('load',()=>{\
        const lum=c=>{const[r,g,b]=c.match(/[\\d.]+/g).map(Number).map(v=>(v/=255)<=.03928?v/12.92:((v+.055)/1.055)**2.4);return .2126*r+.7152*g+.0722*b};\
        const back=e=>{for(;e;e=e.parentElement){const c=getComputedStyle(e).backgroundColor;if(!c.endsWith(', 0)'))return c}return 'rgb(255,255,255)'};\
        let worst=99,where='';\
        for(const e of document.querySelectorAll('body *')){if(e.closest('svg')||![...e.childNodes].some(n=>n.nodeType==3&&n.data.trim()))continue;\
        const[a,b]=[lum(getComputedStyle(e).color),lum(back(e))];const r=(Math.max(a,b)+.05)/(Math.min(a,b)+.05);if(r<worst){worst=r;where=e.outerHTML.slice(0,80)}}\
        const l=document.createElement('div');l.id='measured';l.dataset.width=document.documentElement.scrollWidth-innerWidth;\
        let wide='';for(const e of document.querySelectorAll('body *'))if(!wide&&e.getBoundingClientRect().right>innerWidth+1)wide=e.outerHTML.slice(0,80);l.dataset.wide=wide;\
        l.dataset.contrast=worst.toFixed(2);l.dataset.where=where;l.dataset.dark=matchMedia('(prefers-color-scheme:dark)').matches;\
        document.body.append(l)})</script></body>";
    for (name, html) in pages(&node) {
        let open = html
            .replacen("http-equiv", "data-was", 1)
            .replace("<details>", "<details open>")
            .replace("</body>", measure);
        for width in [390, 800, 1280] {
            for scheme in ["0", "1"] {
                let file = browser.profile.path().join("page.html");
                std::fs::write(&file, &open).expect("a file in a fresh directory");
                let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
                let arguments = ["--dump-dom", "--virtual-time-budget=3000", &scheme];
                let dom = browser.run(width, &arguments, &file).stdout;
                let told = |key: &str| {
                    values(&dom, &format!("data-{key}")).first().copied().unwrap_or("?").to_owned()
                };
                let what = format!("{name} at {width}, dark: {}", told("dark"));
                assert_eq!(told("width"), "0", "{what}: it is as wide as the window; {}", told("wide"));
                let contrast: f64 =
                    told("contrast").parse().unwrap_or_else(|_| panic!("{what}: no contrast: {dom}"));
                // WCAG 2.2, 1.4.3.
                assert!(contrast >= 4.5, "{what}: {contrast} at {}", told("where"));
                let is_dark = scheme.ends_with('0').to_string();
                assert_eq!(told("dark"), is_dark, "{what}");
            }
        }
    }
}

/// How often a scan opens the config.json of each container, by its path. A sandbox is also looked for from its pod's
/// containers.
fn opened(node: &Captured, format: &str) -> BTreeMap<String, usize> {
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut command = Command::new("strace");
    command
        .args(["--follow-forks", "--quiet=all", "--trace=open,openat,openat2", "--output"])
        .arg(log.path());
    command.arg(program::binary()).arg("--root").arg(node.root()).args(["scan", "--format", format]);
    run::run(&mut command).expect_success();
    let text = std::fs::read_to_string(log.path()).expect("the log of strace");
    let mut opened = BTreeMap::new();
    for path in text.lines().filter_map(|line| line.split('"').nth(1)) {
        if path.ends_with("/config.json") && !path.contains("/../") {
            *opened.entry(path.to_owned()).or_default() += 1;
        }
    }
    opened
}

#[test]
fn a_page_of_three_levels_reads_each_container_once() {
    let test = "a_page_of_three_levels_reads_each_container_once";
    if !needs::can_run(test, &["strace"]) {
        return;
    }
    let node = small();
    let page = opened(&node, "html");
    assert_eq!(page.len(), 8, "{page:?}");
    assert!(page.values().all(|count| *count == 1), "{page:?}");
    assert_eq!(page, opened(&node, "json"));
}

#[test]
fn the_squares_are_what_a_scan_at_that_level_says() {
    let node = small();
    let scan = |arguments: &[&str]| {
        let mut command = Command::new(program::binary());
        run::run(command.arg("--root").arg(node.root()).arg("scan").args(arguments)).expect_success().stdout
    };
    for arguments in [&[][..], &["--level", "restricted"], &["--control", "hostPathVolumes"]] {
        let html = scan(&[&["--format", "html"], arguments].concat());
        for level in ["baseline", "restricted"] {
            let filter = if arguments.first() == Some(&"--control") { arguments } else { &[] };
            let text = scan(&[&["--level", level, "--format", "json"], filter].concat());
            let all = || text.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object"));
            let refused = all().filter(|one| one["sandbox"] == true && one["verdict"] == "deny");
            let pods: BTreeSet<String> = refused.map(|one| one["container"]["pod"].to_string()).collect();
            let (mut judged, mut allowed) = (0, 0);
            for one in all().filter(|one| one["sandbox"] == false && one["verdict"] != "exempt") {
                judged += 1;
                allowed += u32::from(
                    one["verdict"] == "allow" && !pods.contains(&one["container"]["pod"].to_string()),
                );
            }
            assert!(judged > 0, "{text}");
            let expected = format!("aria-label=\"{level} (1 exempt): {allowed} of {judged}\"");
            assert!(html.contains(&expected), "{arguments:?}: {expected} is not in {html}");
        }
    }
}
