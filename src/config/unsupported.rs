//! Keys whose feature this version does not have yet. Each feature takes its lines from here when
//! it is built.

use super::hooks::Hooks;
use super::tree::Node;

/// One sentence per hook of a feature that is not there, after inheritance: a table may switch on again
/// what another one switched off.
pub(super) fn hooks(hooks: &Hooks, layers: &Node, found: &mut Vec<String>) {
    for (name, entries) in [("on_forward", &hooks.on_forward), ("on_relay", &hooks.on_relay)] {
        let origin = layers.origin_of(&["hooks", name]);
        let sentence =
            format!("hooks.{name} is set ({origin}), but nothing calls it in this version.");
        if hooks.enabled && !entries.is_empty() && !found.contains(&sentence) {
            found.push(sentence);
        }
    }
}
