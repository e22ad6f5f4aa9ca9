//! The name of this node among others: `cluster.node`, else the host's name, and a part that no other
//! process has, so that two servers on one host are two nodes.

use std::sync::OnceLock;

/// The name. The same for the life of the process, whatever is configured later: others know it by now.
pub(super) fn name(configured: &str) -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let mut random = [0; 4];
        if getrandom::fill(&mut random).is_err() {
            random = std::process::id().to_le_bytes();
        }
        let own: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let host = if configured.is_empty() { host_name() } else { configured.to_owned() };
        let is_plain = |it: &char| it.is_ascii_alphanumeric() || "._-".contains(*it);
        let host: String = host.chars().filter(is_plain).take(64).collect();
        format!("{host}.{own}")
    })
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_name() {
        let first = name("");
        assert_eq!(name("another"), first);
        assert!(first.len() > 8 && !first.contains([',', ' ']), "{first}");
    }
}
