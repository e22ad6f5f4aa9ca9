//! What client and server say of Enhanced RTMP in connect: codecs by FourCC, and extensions.
//!
//! Source: Veovera, Enhanced RTMP v2, "Enhancing NetConnection connect Command"; v1 had `fourCcList`
//! alone. A client says what it can take, the server what it can forward: everything, because
//! bodies pass through unchanged.

use super::super::amf0::Value;

/// Codecs that one client may name; further ones are taken for not named.
const NAMED_MAX: usize = 64;

/// `FourCcInfoMask.CanForward`.
const CAN_FORWARD: f64 = 4.0;
/// `CapsExMask`: Reconnect (1), asked for when the server stops; Multitrack (2), ModEx (4) and
/// TimestampNanoOffset (8), which pass.
const CAPS_EX: f64 = 15.0;
/// Any codec.
const WILDCARD: &str = "*";

/// FourCCs that the specification defines for video.
const VIDEO: [&str; 6] = ["av01", "avc1", "hvc1", "vp08", "vp09", "vvc1"];
/// FourCCs that the specification defines for audio.
const AUDIO: [&str; 6] = [".mp3", "Opus", "ac-3", "ec-3", "fLaC", "mp4a"];

/// What the server says of itself, as properties of an object in the answer to connect, or in the object of
/// its own connect to another server.
pub fn server_properties() -> Vec<(String, Value)> {
    let names = VIDEO.iter().chain(&AUDIO).chain([&WILDCARD]);
    let list = names.map(|name| Value::from(*name)).collect();
    let map = |names: [&'static str; 6]| {
        let names = [WILDCARD].into_iter().chain(names);
        Value::object(names.map(|name| (name, Value::from(CAN_FORWARD))))
    };
    vec![
        ("capsEx".to_owned(), Value::from(CAPS_EX)),
        ("fourCcList".to_owned(), Value::StrictArray(list)),
        ("videoFourCcInfoMap".to_owned(), map(VIDEO)),
        ("audioFourCcInfoMap".to_owned(), map(AUDIO)),
    ]
}

/// The codecs that a client named in the object of connect, whatever it can do with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnouncedCodecs {
    named: Vec<[u8; 4]>,
    any_video: bool,
    any_audio: bool,
}

impl AnnouncedCodecs {
    /// Reads `fourCcList`, `videoFourCcInfoMap` and `audioFourCcInfoMap`. What is not of their form
    /// is passed over.
    pub fn of_connect(object: &Value) -> Self {
        let mut announced = Self::default();
        match object.property("fourCcList") {
            Some(Value::StrictArray(names)) => {
                let names = names.iter().filter_map(Value::as_str);
                names.for_each(|name| announced.add(name, true, true));
            }
            Some(list) => {
                let names = list.properties().unwrap_or_default();
                let names = names.iter().filter_map(|(_, name)| name.as_str());
                names.for_each(|name| announced.add(name, true, true));
            }
            None => {}
        }
        for (key, is_video) in [("videoFourCcInfoMap", true), ("audioFourCcInfoMap", false)] {
            let map = object.property(key).and_then(Value::properties).unwrap_or_default();
            // A flag of 0 says that it can do nothing with the codec.
            let useful = map.iter().filter(|(_, flags)| flags.as_f64() != Some(0.0));
            useful.for_each(|(name, _)| announced.add(name, is_video, !is_video));
        }
        announced
    }

    /// Whether the client takes the video codec.
    pub fn has_video(&self, fourcc: [u8; 4]) -> bool {
        self.any_video || self.named.contains(&fourcc)
    }

    /// Whether the client takes the audio codec.
    pub fn has_audio(&self, fourcc: [u8; 4]) -> bool {
        self.any_audio || self.named.contains(&fourcc)
    }

    fn add(&mut self, name: &str, is_video: bool, is_audio: bool) {
        if name == WILDCARD {
            self.any_video |= is_video;
            self.any_audio |= is_audio;
        } else if let Ok(fourcc) = <[u8; 4]>::try_from(name.as_bytes())
            && self.named.len() < NAMED_MAX
            && !self.named.contains(&fourcc)
        {
            self.named.push(fourcc);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_server_forwards_every_codec_of_the_specification() {
        let said = Value::Object(server_properties());
        // What a client reads of the server is what the server reads of a client.
        let mut only_names = AnnouncedCodecs::of_connect(&said);
        assert!(only_names.any_video && only_names.any_audio);
        (only_names.any_video, only_names.any_audio) = (false, false);
        for name in VIDEO {
            assert!(only_names.has_video(name.as_bytes().try_into().unwrap()), "{name}");
        }
        for name in AUDIO {
            assert!(only_names.has_audio(name.as_bytes().try_into().unwrap()), "{name}");
        }
        let Some(Value::StrictArray(list)) = said.property("fourCcList") else { panic!("a list") };
        assert_eq!(list.len(), 13);
        let video = said.property("videoFourCcInfoMap").unwrap();
        assert_eq!(video.property("hvc1"), Some(&Value::from(4.0)));
        assert_eq!(video.property("Opus"), None);
        assert_eq!(said.property("capsEx"), Some(&Value::from(15.0)));
    }

    #[test]
    fn what_clients_announce() {
        let list = |names: &[&str]| {
            Value::StrictArray(names.iter().map(|name| Value::from(*name)).collect())
        };
        let map = |flags: f64| Value::object([("hvc1", Value::from(flags))]);
        let odd = Value::ecma_array([("0", Value::from("hvc1"))]);
        // (property, value, whether HEVC is announced)
        let table = [
            ("fourCcList", list(&["av01", "hvc1"]), true),
            ("fourCcList", list(&["av01"]), false),
            ("fourCcList", list(&["*"]), true),
            ("fourCcList", odd, true),
            ("fourCcList", Value::from("hvc1"), false),
            ("videoFourCcInfoMap", map(1.0), true),
            ("videoFourCcInfoMap", map(0.0), false),
            ("videoFourCcInfoMap", Value::object([("*", Value::from(4.0))]), true),
            ("audioFourCcInfoMap", Value::object([("*", Value::from(4.0))]), false),
            ("videoCodecs", Value::from(252.0), false),
        ];
        for (key, value, expected) in table {
            let object = Value::object([(key, value)]);
            let announced = AnnouncedCodecs::of_connect(&object);
            assert_eq!(announced.has_video(*b"hvc1"), expected, "{object:?}");
        }
        assert!(!AnnouncedCodecs::of_connect(&Value::Null).has_audio(*b"Opus"));
    }

    #[test]
    fn a_list_without_end_is_cut() {
        let names = (0..5_000).map(|number| Value::from(format!("{number:04}").as_str()));
        let object = Value::object([("fourCcList", Value::StrictArray(names.collect()))]);
        assert_eq!(AnnouncedCodecs::of_connect(&object).named.len(), NAMED_MAX);
    }
}
