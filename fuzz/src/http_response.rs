//! HTTP answers to the server's own requests: the same under any split, and never more than the cap.

use shardcast::proto::http_response::{Response, ResponseError, ResponseReader};

use super::dice::Dice;

/// Body bytes that are kept: less than inputs have.
const BODY_BYTES_MAX: usize = 2_000;

/// What an endpoint answers, to the end of its connection.
pub fn run(data: &[u8]) {
    let whole = read(&[data]);
    assert_eq!(read(&Dice::of(data).cut(data)), whole);
    let bytewise: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(read(&bytewise), whole);
    match whole {
        Ok(Some(response)) => {
            assert!(response.body.len() <= BODY_BYTES_MAX.min(data.len()));
            assert!(response.is_whole || !response.keep_alive, "what follows is of this answer");
            assert!(response.location.is_none_or(|it| !it.is_empty()));
            assert_ne!(response.status / 100, 1);
        }
        Ok(None) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn read(pieces: &[&[u8]]) -> Result<Option<Response>, ResponseError> {
    let mut reader = ResponseReader::new(BODY_BYTES_MAX);
    let mut is_done = false;
    for piece in pieces {
        let is_now_done = reader.input(piece)?;
        assert!(is_now_done || !is_done, "what is complete stays so");
        is_done = is_now_done;
        assert!(reader.has_begun() || piece.is_empty());
    }
    if !is_done {
        reader.end()?;
    }
    Ok(reader.response())
}
