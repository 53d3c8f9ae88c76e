//! `requestState`: what a stateless call must remember between its question and the answer, carried by the client.
//!
//! The client can read it and may try to change it, so it is bound by an HMAC to the tool, the arguments and an expiry
//! (2026-07-28, Multi Round-Trip Requests, Server Requirements 4 and 5). There is no principal to bind it to: this server
//! has no authentication, and whoever stands in front of it binds what it relays.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Duration;
use portico_clock::SharedClock;
use portico_ids::Rng;
use serde_json::Value;

use crate::json_rpc::RpcError;

/// How long a person may take to fill in a form.
const LIFETIME: Duration = Duration::minutes(10);

/// Seals and opens request states with a key that lives as long as the process.
#[derive(Debug)]
pub(crate) struct RequestState {
    key: hmac::Key,
    clock: SharedClock,
}

impl RequestState {
    pub(crate) fn new(clock: SharedClock, rng: &dyn Rng) -> Self {
        let mut key = [0; 32];
        rng.fill(&mut key);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key), clock }
    }

    /// `REFERENCE.EXPIRY.MAC`, for the retry of this tool with these arguments.
    pub(crate) fn seal(&self, tool: &str, arguments: &Value, reference: &str) -> String {
        let payload = format!("{reference}.{}", (self.clock.now() + LIFETIME).timestamp());
        let mac = hmac::sign(&self.key, bound(tool, arguments, &payload).as_bytes());
        format!("{payload}.{}", URL_SAFE_NO_PAD.encode(mac))
    }

    /// The reference inside, if the state was made here, for this request, and has not expired.
    pub(crate) fn open(&self, tool: &str, arguments: &Value, state: &str) -> Result<String, RpcError> {
        let refused = || {
            RpcError::invalid_params("requestState is not valid for this request: send the call without it")
        };
        let (payload, mac) = state.rsplit_once('.').ok_or_else(refused)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| refused())?;
        hmac::verify(&self.key, bound(tool, arguments, payload).as_bytes(), &mac).map_err(|_| refused())?;
        let (reference, expiry) = payload.split_once('.').ok_or_else(refused)?;
        if expiry.parse::<i64>().map_err(|_| refused())? < self.clock.now().timestamp() {
            return Err(RpcError::invalid_params("requestState has expired: send the call without it"));
        }
        Ok(reference.to_owned())
    }
}

/// What the HMAC covers. The parts cannot run into one another: JSON text has no line break, nor has a tool's name.
fn bound(tool: &str, arguments: &Value, payload: &str) -> String {
    format!("{tool}\n{arguments}\n{payload}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;
    use portico_clock::MockClock;
    use portico_ids::SeededRng;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_state_opens_for_its_own_request_until_it_expires() {
        let clock = MockClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let states = RequestState::new(Arc::new(clock.clone()), &SeededRng::new(1));
        let arguments = json!({ "people": 2 });
        let state = states.seal("book_table", &arguments, "abc");

        assert_eq!(states.open("book_table", &arguments, &state).unwrap(), "abc");
        for (tool, arguments, state) in [
            ("book_table", json!({ "people": 3 }), state.clone()),
            ("other", arguments.clone(), state.clone()),
            ("book_table", arguments.clone(), state.replacen("abc", "abd", 1)),
            ("book_table", arguments.clone(), "no state".to_owned()),
        ] {
            assert!(states.open(tool, &arguments, &state).is_err(), "{tool} {arguments} {state}");
        }
        clock.advance(LIFETIME + Duration::seconds(1));
        assert!(states.open("book_table", &arguments, &state).unwrap_err().message.contains("expired"));
    }
}
