//! A Prometheus that scrapes what a test says, asked through `promtool`.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

/// What the shell does: `$1` the folder, `$2` the port. It ends the server when its input does.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
cd "$1" || exit 1
prometheus --config.file=prometheus.yml --storage.tsdb.path="$1/data" --web.listen-address=127.0.0.1:$2 >log 2>&1 &
server=$!
echo started
cat >/dev/null
kill -KILL $server
wait $server
cd / && rm -rf "$1"
"#;

/// Whether the programs are there; why not is printed.
pub fn is_installed() -> bool {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let installed = there("promtool") && there("prometheus");
    if !installed {
        println!("skipped: no Prometheus is installed (`./test` does it)");
    }
    installed
}

/// `promtool` with these arguments has to like what it gets on its standard input.
#[track_caller]
pub fn promtool(folder: &Path, arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Most of its commands read none.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}:\n{said}\nof\n{input}");
    said
}

/// At work until it is dropped.
pub struct Server {
    port: u16,
    _lifeline: ChildStdin,
}

impl Server {
    /// Scrapes `port` every second.
    // The shell is waited for by nobody: it goes when its pipe closes.
    #[allow(clippy::zombie_processes)]
    pub fn scraping(port: u16) -> Server {
        let folder = tempfile::Builder::new().prefix("ks-prom").tempdir().unwrap().keep();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: keepstone\n    static_configs:\n      \
             - targets: [\"127.0.0.1:{port}\"]\n"
        );
        std::fs::write(folder.join("prometheus.yml"), config).unwrap();
        let own = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = if rustix::process::geteuid().is_root() {
            assert!(Command::new("chown").args(["-R", "nobody:nogroup"]).arg(&folder).status().unwrap().success());
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", SCRIPT, "sh"]).arg(&folder).arg(own.to_string());
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lifeline = keeper.stdin.take().unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "started\n");
        Server { port: own, _lifeline: lifeline }
    }

    /// What it answers to a question, once it has an answer that holds `part`.
    #[track_caller]
    pub fn ask(&self, question: &str, part: &str) -> String {
        let mut answer = String::new();
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                answer = self.query(question).1;
                if answer.contains(part) {
                    return answer;
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{question} is not answered with {part}: {answer}");
    }

    /// Whether it took the question, and what it said.
    fn query(&self, question: &str) -> (bool, String) {
        let url = format!("http://127.0.0.1:{}", self.port);
        let output = Command::new("promtool").args(["query", "instant", &url, question]).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    }

    /// Whether it understands a question.
    #[track_caller]
    pub fn understands(&self, question: &str) {
        let (is_good, answer) = self.query(question);
        assert!(is_good, "{question}: {answer}");
    }
}
