//! The configuration before it has types: a tree of values that know where they come from.
//!
//! File, environment and `--set` are merged here, so that every later complaint can name the
//! line, variable or option that it is about.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;

/// Where a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    #[default]
    Default,
    /// An environment variable.
    Environment {
        /// The variable's name.
        variable: Arc<str>,
    },
    /// A place in the configuration file.
    File {
        /// The file's name as given.
        file: Arc<str>,
        /// Line from 1.
        line: usize,
        /// Column in characters from 1.
        column: usize,
    },
    /// A `--set` option.
    Set {
        /// The key as given; the value may be a secret.
        key: Arc<str>,
    },
}

/// A value and where it comes from.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

/// A key's place and value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key_origin: Origin,
    pub(super) node: Node,
}

pub(super) type Table = BTreeMap<String, Entry>;

#[derive(Clone, Debug)]
pub(super) enum Value {
    Array(Vec<Node>),
    Boolean(bool),
    Float(f64),
    Integer(i64),
    String(String),
    Table(Table),
    /// From outside the file: what it is depends on the key. See [`Node::interpret`]. Where it
    /// can be read as a table, that is the second part.
    Text(String, Option<Table>),
}

impl Default for Value {
    fn default() -> Self {
        Self::Table(Table::new())
    }
}

impl Node {
    /// Parses a file.
    pub(super) fn parse_file(file: &str, text: &str) -> Result<Self, ConfigError> {
        let places = Places::new(file, text);
        match DeTable::parse(text) {
            Ok(table) => {
                Ok(Self::from_table(table.get_ref(), Origin::Default, &|span| places.origin(span)))
            }
            Err(error) => Err(ConfigError::new(
                error.span().map_or(Origin::Default, |s| places.origin(&s)),
                "",
                error.message().trim_end().replace('\n', ", "),
            )),
        }
    }

    /// What a value from outside the file is when its key does not want a string: TOML, or else
    /// a bare word.
    pub(super) fn interpret(text: &str, origin: &Origin) -> Self {
        let value = match DeValue::parse(text) {
            Ok(value) => {
                return Self::from_value(value.get_ref(), origin.clone(), &|_| origin.clone());
            }
            Err(_) => Value::String(text.to_owned()),
        };
        Self { origin: origin.clone(), value }
    }

    /// Puts `text` at a path, over what is there.
    pub(super) fn set(
        &mut self,
        path: &[String],
        text: &str,
        origin: &Origin,
    ) -> Result<(), ConfigError> {
        let Some((key, rest)) = path.split_first() else {
            let table = match Self::interpret(text, origin).value {
                Value::Table(table) => Some(table),
                _ => None,
            };
            *self = Self { origin: origin.clone(), value: Value::Text(text.to_owned(), table) };
            return Ok(());
        };
        if let Value::Text(_, Some(table)) = &mut self.value {
            self.value = Value::Table(std::mem::take(table));
        }
        let Value::Table(table) = &mut self.value else {
            return Err(ConfigError::new(
                origin.clone(),
                key,
                "the key stands below one that is no table",
            ));
        };
        match table.entry(key.clone()) {
            btree_map::Entry::Occupied(mut entry) => entry.get_mut().node.set(rest, text, origin),
            btree_map::Entry::Vacant(entry) => entry
                .insert(Entry {
                    key_origin: origin.clone(),
                    node: Self { origin: origin.clone(), value: Value::default() },
                })
                .node
                .set(rest, text, origin),
        }
    }

    /// Lays `over` over this node: tables key by key, everything else as a whole.
    pub(super) fn overlay(&mut self, over: &Self) {
        let (Value::Table(lower), Some(upper)) = (&mut self.value, over.table()) else {
            *self = over.clone();
            return;
        };
        self.origin = over.origin.clone();
        for (key, entry) in upper {
            match lower.entry(key.clone()) {
                btree_map::Entry::Occupied(mut below) => {
                    let below = below.get_mut();
                    below.key_origin = entry.key_origin.clone();
                    below.node.overlay(&entry.node);
                }
                btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(entry.clone());
                }
            }
        }
    }

    /// The value of a key of this table.
    pub(super) fn child(&self, key: &str) -> Option<&Self> {
        Some(&self.table()?.get(key)?.node)
    }

    /// The keys of this table.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.table().into_iter().flatten().map(|(key, _)| &**key)
    }

    /// The entries of this node, when it is a table.
    pub(super) fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) | Value::Text(_, Some(table)) => Some(table),
            _ => None,
        }
    }

    /// A table with one key.
    pub(super) fn wrap(key: &str, node: Self) -> Self {
        let entry = Entry { key_origin: node.origin.clone(), node };
        Self {
            origin: Origin::Default,
            value: Value::Table(Table::from([(key.to_owned(), entry)])),
        }
    }

    /// What stands at a path below this table.
    pub(super) fn entry(&self, path: &[&str]) -> Option<&Entry> {
        let (key, rest) = path.split_first()?;
        let entry = self.table()?.get(*key)?;
        if rest.is_empty() { Some(entry) } else { entry.node.entry(rest) }
    }

    /// Puts an entry at a path below this table, or takes away what is there.
    pub(super) fn put(&mut self, path: &[&str], entry: Option<Entry>) {
        let Some((key, rest)) = path.split_first() else { return };
        if let Value::Text(_, Some(table)) = &mut self.value {
            self.value = Value::Table(std::mem::take(table));
        }
        let Value::Table(table) = &mut self.value else { return };
        match (rest.is_empty(), entry) {
            (true, Some(entry)) => {
                table.insert((*key).to_owned(), entry);
            }
            (true, None) => {
                table.remove(*key);
            }
            (false, entry) => {
                if let Some(below) = table.get_mut(*key) {
                    below.node.put(rest, entry);
                } else if entry.is_some() {
                    let mut node = Self::default();
                    node.put(rest, entry);
                    table.insert((*key).to_owned(), Entry { key_origin: Origin::Default, node });
                }
            }
        }
    }

    /// Forgets a key of this table.
    pub(super) fn remove(&mut self, key: &str) {
        if let Value::Table(table) = &mut self.value {
            table.remove(key);
        }
    }

    /// Where the value at a path comes from; a key that nobody set has its nearest set table's
    /// origin.
    pub(super) fn origin_of(&self, path: &[&str]) -> Origin {
        let mut node = self;
        let mut origin = &self.origin;
        for key in path {
            let Some(entry) = node.table().and_then(|table| table.get(*key)) else {
                break;
            };
            origin = &entry.key_origin;
            node = &entry.node;
        }
        origin.clone()
    }

    fn from_table(
        table: &DeTable<'_>,
        origin: Origin,
        place: &impl Fn(&Range<usize>) -> Origin,
    ) -> Self {
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let key_origin = place(&key.span());
            let key: &std::borrow::Cow<'_, str> = key.get_ref();
            let node = Self::from_value(value.get_ref(), place(&value.span()), place);
            (key.clone().into_owned(), Entry { key_origin, node })
        };
        Self { origin, value: Value::Table(table.iter().map(entry).collect()) }
    }

    fn from_value(
        value: &DeValue<'_>,
        origin: Origin,
        place: &impl Fn(&Range<usize>) -> Origin,
    ) -> Self {
        let value = match value {
            DeValue::String(text) => Value::String(text.clone().into_owned()),
            DeValue::Integer(integer) => {
                match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(integer) => Value::Integer(integer),
                    Err(_) => Value::Float(f64::INFINITY),
                }
            }
            DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Datetime(datetime) => Value::String(datetime.to_string()),
            DeValue::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| Self::from_value(item.get_ref(), place(&item.span()), place))
                    .collect(),
            ),
            DeValue::Table(table) => return Self::from_table(table, origin, place),
        };
        Self { origin, value }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the defaults"),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Set { key } => write!(f, "--set {key}"),
        }
    }
}

/// Finds lines and columns of byte offsets.
struct Places<'a> {
    file: Arc<str>,
    text: &'a str,
}

impl<'a> Places<'a> {
    fn new(file: &str, text: &'a str) -> Self {
        Self { file: file.into(), text }
    }

    fn origin(&self, span: &Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Origin::File {
            file: Arc::clone(&self.file),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node {
        Node::parse_file("f.toml", text).unwrap()
    }

    #[test]
    fn origins_are_lines_and_columns() {
        let tree = node("a = 1\n\n[t.u]\n  b = \"ü\"; ".replace(';', "").as_str());
        assert_eq!(tree.origin_of(&["a"]).to_string(), "f.toml:1:1");
        assert_eq!(tree.origin_of(&["t", "u", "b"]).to_string(), "f.toml:4:3");
        // A key that nobody set is looked for where its table is.
        assert_eq!(tree.origin_of(&["t", "u", "x"]).to_string(), "f.toml:3:4");
    }

    #[test]
    fn tables_merge_key_by_key_and_the_rest_as_a_whole() {
        let mut tree = node("l = [1, 2]\n[t]\na = 1\nb = 1");
        tree.overlay(&node("l = [3]\n[t]\nb = 2\nc = 2"));
        let Value::Array(list) = &tree.child("l").unwrap().value else {
            panic!("a list stays a list")
        };
        assert_eq!(list.len(), 1);
        let table = tree.child("t").unwrap();
        assert_eq!(table.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(matches!(table.child("b").unwrap().value, Value::Integer(2)));
    }

    #[test]
    fn a_text_becomes_a_table_when_keys_are_set_below_it() {
        let mut tree = Node::default();
        let origin = Origin::Default;
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        tree.set(&path("t"), "{ a = 1 }", &origin).unwrap();
        tree.set(&path("t.b"), "2", &origin).unwrap();
        assert_eq!(tree.child("t").unwrap().keys().count(), 2);
        tree.set(&path("w"), "word", &origin).unwrap();
        assert!(tree.set(&path("w.b"), "2", &origin).is_err());
    }
}
