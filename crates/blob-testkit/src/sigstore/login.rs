//! An OpenID provider that lets everybody in as Ann: discovery, the code flow with PKCE, and tokens.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::keys::sha256;
use super::{Fault, LoginFault, Person};

/// Where it is below the address of the instance.
pub(super) const PATH: &str = "/oidc";
/// As which program people log in.
const CLIENT: &str = "sigstore";

/// What was asked for with a code.
struct Begun {
    challenge: String,
    nonce: String,
    redirect: String,
}

/// The codes that were given out; each counts once.
#[derive(Default)]
pub(super) struct Provider {
    begun: HashMap<String, Begun>,
    count: u32,
}

fn pairs(query: &str) -> HashMap<String, String> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

fn faulty(fault: Option<Fault>, wanted: LoginFault) -> bool {
    fault == Some(Fault::Login(wanted))
}

impl Provider {
    /// What it says of itself.
    pub(super) fn discovery(issuer: &str, fault: Option<Fault>) -> Value {
        let says = if faulty(fault, LoginFault::Impostor) { "https://elsewhere.test" } else { issuer };
        json!({
            "issuer": says,
            "authorization_endpoint": format!("{issuer}/auth"),
            "token_endpoint": format!("{issuer}/token"),
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
        })
    }

    /// Where the browser is sent to; the code itself where there is nowhere to send it.
    pub(super) fn authorize(&mut self, query: &str, fault: Option<Fault>) -> Result<String, (u16, &'static str)> {
        let asked = pairs(query);
        let get = |name: &str| asked.get(name).cloned().unwrap_or_default();
        let right = get("response_type") == "code"
            && get("client_id") == CLIENT
            && get("code_challenge_method") == "S256"
            && get("scope").split(' ').any(|scope| scope == "openid");
        if !right || get("code_challenge").len() != 43 || get("state").len() < 16 || get("nonce").len() < 16 {
            return Err((400, "the request is not one"));
        }
        self.count += 1;
        let (code, redirect) = (format!("code-{}", self.count), get("redirect_uri"));
        let begun = Begun { challenge: get("code_challenge"), nonce: get("nonce"), redirect: redirect.clone() };
        self.begun.insert(code.clone(), begun);
        if redirect == "urn:ietf:wg:oauth:2.0:oob" {
            return Ok(code);
        }
        if !redirect.starts_with("http://127.0.0.1:") {
            return Err((400, "the redirect is not to this machine"));
        }
        let state =
            if faulty(fault, LoginFault::State) { "another-state-that-was-not-sent".into() } else { get("state") };
        let mut answer = form_urlencoded::Serializer::new(String::new());
        answer.append_pair("state", &state);
        if faulty(fault, LoginFault::Denied) {
            answer.append_pair("error", "access_denied").append_pair("error_description", "not today");
        } else {
            answer.append_pair("code", &code);
        }
        Ok(format!("{redirect}?{}", answer.finish()))
    }

    /// The token for a code, for who can show what the challenge was made of.
    pub(super) fn token(
        &mut self,
        issuer: &str,
        body: &[u8],
        fault: Option<Fault>,
    ) -> Result<Value, (u16, &'static str)> {
        let asked = pairs(&String::from_utf8_lossy(body));
        let get = |name: &str| asked.get(name).map_or("", String::as_str);
        let begun = self.begun.remove(get("code")).ok_or((400, "the code is not one, or was used"))?;
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(sha256(get("code_verifier").as_bytes()));
        let right = get("grant_type") == "authorization_code" && get("client_id") == CLIENT;
        if !right || challenge != begun.challenge || get("redirect_uri") != begun.redirect {
            return Err((400, "who asks is not who began"));
        }
        if faulty(fault, LoginFault::Refused) {
            return Err((400, "no token for you"));
        }
        if faulty(fault, LoginFault::NoToken) {
            return Ok(json!({"access_token": "access"}));
        }
        let by = if faulty(fault, LoginFault::Issuer) { "https://elsewhere.test" } else { issuer };
        let nonce = if faulty(fault, LoginFault::Nonce) { "another" } else { &begun.nonce };
        let person = Person::email(by, "ann@example.com").claim("nonce", nonce);
        let person = if faulty(fault, LoginFault::Audience) { person.claim("aud", "other") } else { person };
        Ok(json!({"access_token": "access", "token_type": "Bearer", "id_token": person.token()}))
    }
}
