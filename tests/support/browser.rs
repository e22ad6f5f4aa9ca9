//! Headless Chromium, driven over its debugging port, and a site that serves the pages of a test.
//!
//! The protocol: <https://chromedevtools.github.io/devtools-protocol/>. Each page has a connection of its
//! own; what the page complains of (exceptions, error lines of its console) is kept for reports.

use std::collections::HashMap;
use std::env;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::http::connect;
use super::process::Process;
use super::scratch::Scratch;

/// Names of the program; Debian's first.
const PROGRAMS: [&str; 4] =
    ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
/// How long a start may take on a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long an answer to a call may take; scripts that wait for something have to be quicker.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// What precedes the debugging address on standard error.
const LISTENING: &str = "DevTools listening on ws://";
/// Lines of complaint that a report shows.
const COMPLAINTS_MAX: usize = 40;

/// A running browser; dropped, it is killed with all its processes.
pub(crate) struct Browser {
    process: Process,
    address: SocketAddr,
    control: Connection,
    /// Profile and cache of this run.
    _profile: Scratch,
}

/// A page in a window of its own.
pub(crate) struct Page {
    url: String,
    connection: Connection,
}

/// One connection to the debugging port.
struct Connection {
    socket: WebSocket<TcpStream>,
    last_id: u64,
    complaints: Vec<String>,
}

impl Browser {
    /// Starts a browser without a display.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with these options.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let profile = Scratch::new("chromium");
        let mut command = Command::new(program());
        command
            .args(["--headless=new", "--remote-debugging-port=0", "--disable-gpu"])
            // The pages are the test's own; as root, and in most containers, there is no sandbox.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            // Its own errors are about desktops that are not there.
            .arg("--log-level=3")
            .args(["--no-first-run", "--disable-breakpad", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-extensions", "--disable-sync"])
            .args(["--autoplay-policy=no-user-gesture-required", "--mute-audio"])
            // Several windows play at a time, and none of them is looked at.
            .args(["--disable-background-timer-throttling", "--disable-renderer-backgrounding"])
            .arg("--disable-backgrounding-occluded-windows")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(options)
            .arg("about:blank");
        let process = Process::spawn("chromium", &mut command);
        process.wait_for_stderr(LISTENING, START_LIMIT);
        let said = process.stderr();
        let url = said.split(LISTENING).nth(1).and_then(|rest| rest.lines().next());
        let (address, path) =
            url.and_then(|url| url.split_once('/')).expect("the address has a path");
        let address = address.parse().expect("an address");
        let control = Connection::open(address, path);
        Self { process, address, control, _profile: profile }
    }

    /// Opens an empty page.
    pub(crate) fn window(&mut self) -> Page {
        let parameters = json!({ "url": "about:blank", "newWindow": true });
        let target = self.control.call("Target.createTarget", &parameters);
        let target = target["targetId"].as_str().expect("a target has an id");
        let mut connection = Connection::open(self.address, &format!("devtools/page/{target}"));
        for domain in ["Runtime", "Log", "Page"] {
            connection.call(&format!("{domain}.enable"), &json!({}));
        }
        Page { url: "about:blank".to_owned(), connection }
    }

    /// Opens `url` and waits until it is loaded.
    pub(crate) fn open(&mut self, url: &str) -> Page {
        let mut page = self.window();
        page.load(url);
        page
    }

    /// The process.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }
}

impl Page {
    /// Goes to `url` and waits until it is loaded.
    pub(crate) fn load(&mut self, url: &str) {
        url.clone_into(&mut self.url);
        let loaded = self.connection.call("Page.navigate", &json!({ "url": url }));
        assert!(loaded.get("errorText").is_none(), "{url}: {}", loaded["errorText"]);
        self.wait_for("the page is loaded", START_LIMIT, "document.readyState === 'complete'");
    }

    /// Runs a script (an expression) in the page and gives its value; a promise is awaited.
    pub(crate) fn evaluate(&mut self, script: &str) -> Value {
        let parameters =
            json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        let result = self.connection.call("Runtime.evaluate", &parameters);
        if let Some(exception) = result.get("exceptionDetails") {
            panic!("{}: {script}\n{exception:#}\n{}", self.url, self.report());
        }
        result["result"]["value"].clone()
    }

    /// Runs a script until its value is true, in the sense of JavaScript.
    pub(crate) fn wait_for(&mut self, what: &str, limit: Duration, script: &str) {
        let deadline = Instant::now() + limit;
        let condition = format!("Boolean({script})");
        while self.evaluate(&condition) != true {
            assert!(
                Instant::now() < deadline,
                "{}: not within {limit:?}: {what}\n{}",
                self.url,
                self.report()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Exceptions and errors in the console so far, one per line.
    pub(crate) fn report(&self) -> String {
        let complaints = &self.connection.complaints;
        complaints[complaints.len().saturating_sub(COMPLAINTS_MAX)..].join("\n")
    }
}

impl Connection {
    fn open(address: SocketAddr, path: &str) -> Self {
        let stream = connect(address);
        stream.set_read_timeout(Some(CALL_LIMIT)).expect("a read time-out can be set");
        let (socket, _) = tungstenite::client(format!("ws://{address}/{path}"), stream)
            .unwrap_or_else(|error| panic!("the debugging port, {path}: {error}"));
        Self { socket, last_id: 0, complaints: Vec::new() }
    }

    /// Calls a method and gives its result; events that come before are looked through.
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let call = json!({ "id": id, "method": method, "params": parameters });
        self.socket.send(Message::text(call.to_string())).expect("the browser reads");
        loop {
            let message = self.socket.read().unwrap_or_else(|error| panic!("{method}: {error}"));
            let Message::Text(text) = message else { continue };
            let said: Value = serde_json::from_str(&text).expect("the browser speaks JSON");
            if said["id"] == id {
                assert!(said.get("error").is_none(), "{method}: {}", said["error"]);
                return said["result"].clone();
            }
            self.event(&said);
        }
    }

    fn event(&mut self, said: &Value) {
        let parameters = &said["params"];
        let complaint = match said["method"].as_str() {
            Some("Runtime.exceptionThrown") => &parameters["exceptionDetails"],
            Some("Log.entryAdded") => &parameters["entry"],
            Some("Runtime.consoleAPICalled") if parameters["type"] == "error" => {
                &parameters["args"]
            }
            _ => return,
        };
        self.complaints.push(complaint.to_string());
    }
}

/// The browser's program.
fn program() -> &'static str {
    let directories = env::var_os("PATH").expect("PATH is set");
    let is_there = |name: &&&str| env::split_paths(&directories).any(|it| it.join(name).exists());
    PROGRAMS
        .iter()
        .find(is_there)
        .unwrap_or_else(|| panic!("none of {PROGRAMS:?} is there: run scripts/test-deps"))
}

/// A file that `scripts/test-deps` put into the user's cache directory.
pub(crate) fn cached_path(name: &str) -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .expect("HOME is set");
    let path = cache.join("shardcast-tests").join(name);
    assert!(path.exists(), "{} is not there: run scripts/test-deps", path.display());
    path
}

/// An HTTP server for pages and scripts; it ends with the test's process.
pub(crate) struct Site {
    address: SocketAddr,
}

impl Site {
    /// Serves these files: path, content type, content.
    pub(crate) fn start(files: Vec<(&'static str, &'static str, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        let files: Arc<HashMap<_, _>> =
            Arc::new(files.into_iter().map(|(path, kind, body)| (path, (kind, body))).collect());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let files = Arc::clone(&files);
                // A browser that closes early ends its thread with an error, which nobody needs.
                thread::spawn(move || answer(&stream, &files));
            }
        });
        Self { address }
    }

    /// Where its files are.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Answers one request.
fn answer(
    mut stream: &TcpStream,
    files: &HashMap<&'static str, (&'static str, Vec<u8>)>,
) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().ok_or(ErrorKind::UnexpectedEof)??;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let target = request.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let nothing = ("text/plain", Vec::new());
    let (status, (kind, body)) = match files.get(path) {
        Some(file) => ("200 OK", file),
        None => ("404 Not Found", &nothing),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}
