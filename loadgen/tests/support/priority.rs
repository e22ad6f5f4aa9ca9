//! Programs under test before everything else that the machine does.

use std::path::Path;
use std::process::Command;

/// What a shell does before it becomes the program: in a session of its own, whose share of the machine
/// does not depend on how many others there are (autogroups, `sched(7)`). Ordinary users may not ask for
/// more than others; then it runs among them.
const GO_FIRST: &str = "echo -19 2>/dev/null >/proc/self/autogroup; exec \"$0\" \"$@\"";

/// A program that goes first with all its children, and is killed if the test is.
pub fn go_first(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "setsid", "nice", "-n", "-19", "sh", "-c", GO_FIRST])
        .arg(program);
    command
}
