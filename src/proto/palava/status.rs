//! What a member says of itself: the name and the user agent, and nothing else (contract signalling, 2.4).

use serde::Serialize;
use serde_json::Value;

use super::error::RoomError;

/// Longest name, in characters.
const NAME_CHARS_MAX: usize = 50;
/// palava-machine knows the first two and `unknown`; the current client also sends `safari`.
const USER_AGENTS: [&str; 4] = ["firefox", "chrome", "safari", "unknown"];

/// A cleaned status. A key that was not given is not shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Shown to the others; a name that is not all ASCII has become asterisks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Decides in the client who sends the first offer, so it is passed on unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

impl Status {
    /// Checks and cleans what the client sent as `status`; `None` for an absent or `null` one. Unknown keys
    /// are left out, keys that are `null` count as absent.
    pub fn clean(sent: Option<&Value>) -> Result<Option<Self>, RoomError> {
        let keys = match sent {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(keys)) => keys,
            Some(_) => return Err(RoomError::InvalidStatus),
        };
        let text = |key: &str| match keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(RoomError::InvalidStatus),
        };
        let name = text("name")?.map(clean_name).transpose()?;
        let user_agent = match text("user_agent")? {
            None => None,
            Some(agent) if USER_AGENTS.contains(&agent) => Some(agent.to_owned()),
            Some(_) => return Err(RoomError::UnknownUserAgent),
        };
        Ok(Some(Self { name, user_agent }))
    }

    /// Says nothing.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.user_agent.is_none()
    }

    /// Takes over the keys that `update` has.
    pub fn merge(&mut self, update: &Self) {
        if update.name.is_some() {
            self.name.clone_from(&update.name);
        }
        if update.user_agent.is_some() {
            self.user_agent.clone_from(&update.user_agent);
        }
    }
}

fn clean_name(name: &str) -> Result<String, RoomError> {
    if name.trim().is_empty() {
        return Err(RoomError::BlankName);
    }
    let chars = name.chars().count();
    if chars > NAME_CHARS_MAX {
        return Err(RoomError::NameTooLong);
    }
    Ok(if name.is_ascii() { name.to_owned() } else { "*".repeat(chars) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn clean(value: Value) -> Result<Option<Status>, RoomError> {
        Status::clean(Some(&value))
    }

    fn name(name: &str) -> Result<Option<String>, RoomError> {
        clean(json!({ "name": name })).map(|status| status.and_then(|status| status.name))
    }

    #[test]
    fn only_name_and_user_agent_are_kept() {
        let status =
            clean(json!({"name": "Ada", "user_agent": "chrome", "foo": 1})).unwrap().unwrap();
        assert_eq!(
            serde_json::to_value(&status).unwrap(),
            json!({"name": "Ada", "user_agent": "chrome"})
        );
        let empty = clean(json!({"foo": 1, "name": null})).unwrap().unwrap();
        assert!(empty.is_empty());
        assert_eq!(serde_json::to_value(&empty).unwrap(), json!({}));
    }

    #[test]
    fn names_have_bounds_and_letters_beyond_ascii_are_hidden() {
        assert_eq!(name("Zé"), Ok(Some("**".to_owned())));
        assert_eq!(name(&"x".repeat(50)), Ok(Some("x".repeat(50))));
        assert_eq!(name(&"é".repeat(50)), Ok(Some("*".repeat(50))));
        assert_eq!(name(&"x".repeat(51)), Err(RoomError::NameTooLong));
        assert_eq!(name(""), Err(RoomError::BlankName));
        assert_eq!(name(" \t\n"), Err(RoomError::BlankName));
    }

    #[test]
    fn user_agents_are_those_of_the_client() {
        for agent in USER_AGENTS {
            let status = clean(json!({ "user_agent": agent })).unwrap().unwrap();
            assert_eq!(status.user_agent.as_deref(), Some(agent));
        }
        assert_eq!(clean(json!({"user_agent": "netscape"})), Err(RoomError::UnknownUserAgent));
    }

    #[test]
    fn what_is_no_object_of_texts_is_refused_and_nothing_is_nothing() {
        for wrong in [
            json!([]),
            json!(1),
            json!("x"),
            json!(true),
            json!({"name": 1}),
            json!({"user_agent": {}}),
        ] {
            assert_eq!(clean(wrong), Err(RoomError::InvalidStatus));
        }
        assert_eq!(Status::clean(None), Ok(None));
        assert_eq!(clean(Value::Null), Ok(None));
    }

    #[test]
    fn an_update_leaves_what_it_does_not_name() {
        let mut status = clean(json!({"name": "a", "user_agent": "chrome"})).unwrap().unwrap();
        status.merge(&clean(json!({"name": "b"})).unwrap().unwrap());
        assert_eq!(
            serde_json::to_value(&status).unwrap(),
            json!({"name": "b", "user_agent": "chrome"})
        );
    }
}
