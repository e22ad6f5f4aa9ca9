//! JSON with long lists, written line by line, so that hooks and verdicts do not wait for it.

use serde::Serialize;
use serde_json::{Value, json};

use crate::control::answer::Answer;
use crate::control::census::Pace;

/// A longer line counts for several.
const LINE_BYTES: usize = 1024;

/// An answer that is being written.
#[derive(Default)]
pub(in crate::control) struct PacedJson {
    text: String,
    pace: Pace,
}

impl PacedJson {
    /// Writes text as it stands.
    pub(in crate::control) fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Writes an object that has other keys up to the value of one more.
    pub(in crate::control) fn begin(&mut self, object: &Value, key: &str) {
        let object = object.to_string();
        self.raw(object.strip_suffix('}').unwrap_or(&object));
        self.raw(&format!(",\"{key}\":"));
    }

    /// Writes an object that has other keys, and a list as one more.
    pub(in crate::control) async fn object_with(
        &mut self,
        object: &Value,
        key: &str,
        lines: impl IntoIterator<Item: Serialize>,
    ) {
        self.begin(object, key);
        self.list(lines).await;
        self.raw("}");
    }

    /// Writes a list. Other work goes on between two lines: they are best made when they are asked for.
    pub(in crate::control) async fn list(&mut self, lines: impl IntoIterator<Item: Serialize>) {
        self.raw("[");
        let mut is_first = true;
        for line in lines {
            if !std::mem::take(&mut is_first) {
                self.raw(",");
            }
            let line = json!(line).to_string();
            self.raw(&line);
            for _ in 0..=line.len() / LINE_BYTES {
                self.pace.step().await;
            }
        }
        self.raw("]");
    }

    /// The answer; a line end is added.
    pub(in crate::control) fn into_answer(mut self) -> Answer {
        self.raw("\n");
        Answer::plain(200, self.text).of_kind("application/json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::resources::testing::count_pauses;

    #[test]
    fn what_is_written_in_pieces_is_what_it_would_be_in_one() {
        let (_, text) = count_pauses(|| async {
            let mut json = PacedJson::default();
            json.begin(&json!({ "a": "}" }), "b");
            json.object_with(&json!({ "c": 1 }), "d", ["\"", "]"]).await;
            json.raw(",\"e\":");
            json.list(Vec::<u8>::new()).await;
            json.raw("}");
            json.text
        });
        let expected = json!({ "a": "}", "b": { "c": 1, "d": ["\"", "]"] }, "e": [] });
        assert_eq!(text, expected.to_string());
    }

    #[test]
    fn other_work_goes_on_while_a_list_is_written() {
        let written = |count: usize, bytes: usize| {
            count_pauses(move || async move {
                let mut json = PacedJson::default();
                json.list((0..count).map(|_| "x".repeat(bytes))).await;
            })
        };
        assert_eq!(written(255, 10).0, 0);
        assert!(written(2_000, 10).0 >= 4);
        assert!(written(100, 20 * LINE_BYTES).0 >= 4, "a long line counts for several");
    }
}
