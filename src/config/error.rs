//! What is wrong with a configuration, where, and what was probably meant.

use std::fmt;

use super::tree::Origin;

/// One complaint: place, key and reason in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the value comes from.
    pub origin: Origin,
    /// The dotted key, empty when the complaint is about no key.
    pub key: String,
    /// Why the value cannot be used.
    pub reason: String,
}

impl ConfigError {
    pub(super) fn new(origin: Origin, key: &str, reason: impl Into<String>) -> Self {
        Self { origin, key: key.to_owned(), reason: reason.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        let named_by_origin = matches!(&self.origin, Origin::Set { key } if **key == self.key);
        if !self.key.is_empty() && !named_by_origin {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ConfigError {}

/// A sentence's end that names the nearest known word, or all of them when they are few.
pub(super) fn suggestion(word: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= (word.chars().count() / 3).max(1));
    match near {
        Some((_, candidate)) => format!("; did you mean `{candidate}`?"),
        None if known.is_empty() => String::new(),
        None if known.len() <= 12 => format!("; known are {}", known.join(", ")),
        None => String::new(),
    }
}

/// Edits between two words (insert, delete, replace, swap of neighbours), without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut edits = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                edits[i][j] = i + j;
                continue;
            }
            let replaced = edits[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(edits[i - 1][j] + 1).min(edits[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(edits[i - 2][j - 2] + 1);
            }
            edits[i][j] = least;
        }
    }
    edits[a.len()][b.len()]
}

/// A key as it would be written: parts that need quotes get them.
pub(super) fn dotted<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut key = String::new();
    for part in parts {
        if !key.is_empty() && !part.starts_with('[') {
            key.push('.');
        }
        let bare = |c: char| c.is_ascii_alphanumeric() || "_-[]".contains(c);
        if part.chars().all(bare) && !part.is_empty() {
            key.push_str(part);
        } else {
            key.push_str(&format!("{part:?}"));
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_found() {
        assert_eq!(distance("lisen", "listen"), 1);
        assert_eq!(distance("rtpm", "rtmp"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        let known = ["chunk_size", "listen", "ping"];
        assert_eq!(suggestion("lisen", &known), "; did you mean `listen`?");
        assert_eq!(suggestion("chunksize", &known), "; did you mean `chunk_size`?");
        assert_eq!(suggestion("zzz", &known), "; known are chunk_size, listen, ping");
    }

    #[test]
    fn keys_are_quoted_where_toml_needs_it() {
        assert_eq!(dotted(["vhosts", "a.b", "apps"]), "vhosts.\"a.b\".apps");
        assert_eq!(dotted(["rtmp", "listen", "[0]"]), "rtmp.listen[0]");
    }
}
