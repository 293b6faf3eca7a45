//! `WWW-Authenticate`: every challenge of every header (RFC 9110 section 11.6.1).
//!
//! A header may hold several challenges, and the comma that parts them also parts the parameters of one; a word
//! followed by `=` and a value is a parameter, any other word begins a challenge. What does not fit the grammar is
//! skipped up to the next comma: a registry that sends one odd challenge may send a good one behind it.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// Challenges, and parameters of a challenge, beyond this many are dropped.
const MAX_ITEMS: usize = 32;

/// One challenge: a scheme and its parameters, names in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// The scheme in lower case.
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The first parameter of this name, which is given in lower case.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The challenges of an answer, in order.
pub(super) fn of_headers(headers: &HeaderMap) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for value in headers.get_all(WWW_AUTHENTICATE) {
        parse(value.as_bytes(), &mut challenges);
    }
    challenges
}

/// Adds the challenges of one header value to `challenges`.
fn parse(text: &[u8], challenges: &mut Vec<Challenge>) {
    // Parameters belong to a challenge of the same header only.
    let first = challenges.len();
    let mut cursor = Cursor { rest: text };
    loop {
        cursor.skip(|byte| byte == b',' || is_space(byte));
        if cursor.rest.is_empty() || challenges.len() >= MAX_ITEMS {
            return;
        }
        let Some(word) = cursor.token() else {
            cursor.skip_to_comma();
            continue;
        };
        if let Some(value) = cursor.value() {
            if let Some(challenge) = challenges.get_mut(first..).and_then(<[_]>::last_mut)
                && challenge.parameters.len() < MAX_ITEMS
            {
                challenge.parameters.push((word.to_ascii_lowercase(), value));
            }
            continue;
        }
        challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
        cursor.skip_token68();
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn skip(&mut self, unwanted: impl Fn(u8) -> bool) {
        let length = self.rest.iter().take_while(|&&byte| unwanted(byte)).count();
        self.rest = &self.rest[length..];
    }

    /// The token here, if there is one.
    fn token(&mut self) -> Option<&'a str> {
        let length = self.rest.iter().take_while(|&&byte| is_token(byte)).count();
        let (word, rest) = self.rest.split_at(length);
        let word = std::str::from_utf8(word).ok().filter(|word| !word.is_empty())?;
        self.rest = rest;
        Some(word)
    }

    /// The value behind an `=`, if both are here; else nothing moves.
    fn value(&mut self) -> Option<String> {
        let mut ahead = Cursor { rest: self.rest };
        ahead.skip(is_space);
        ahead.rest = ahead.rest.strip_prefix(b"=")?;
        ahead.skip(is_space);
        let value = match ahead.rest.strip_prefix(b"\"") {
            Some(rest) => {
                ahead.rest = rest;
                ahead.quoted()?
            }
            None => ahead.token()?.to_owned(),
        };
        self.rest = ahead.rest;
        Some(value)
    }

    /// The rest of a quoted string, whose opening quote is behind us.
    fn quoted(&mut self) -> Option<String> {
        let mut value = Vec::new();
        let mut bytes = self.rest.iter().enumerate();
        while let Some((position, &byte)) = bytes.next() {
            match byte {
                b'"' => {
                    self.rest = &self.rest[position + 1..];
                    return String::from_utf8(value).ok();
                }
                b'\\' => value.push(*bytes.next()?.1),
                _ => value.push(byte),
            }
        }
        None
    }

    /// Passes over the single word that schemes such as Negotiate carry instead of parameters.
    fn skip_token68(&mut self) {
        let mut ahead = Cursor { rest: self.rest };
        ahead.skip(is_space);
        let before = ahead.rest.len();
        ahead.skip(|byte| is_token(byte) || byte == b'/');
        if ahead.rest.len() == before {
            return;
        }
        ahead.skip(|byte| byte == b'=');
        ahead.skip(is_space);
        if ahead.rest.is_empty() || ahead.rest.starts_with(b",") {
            self.rest = ahead.rest;
        }
    }

    /// Passes over what is not understood, quoted commas included.
    fn skip_to_comma(&mut self) {
        let mut quoted = false;
        let mut escaped = false;
        for (position, &byte) in self.rest.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' if !quoted => {
                    self.rest = &self.rest[position + 1..];
                    return;
                }
                _ => {}
            }
        }
        self.rest = &[];
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn read(values: &[&str]) -> Vec<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        of_headers(&headers)
    }

    fn schemes(values: &[&str]) -> Vec<String> {
        read(values).into_iter().map(|challenge| challenge.scheme).collect()
    }

    #[test]
    fn a_bearer_challenge_is_read() {
        let text = r#"BEARER Realm="https://auth.example/token?a=b,c" , service = "reg\"istry",scope="repository:a/b:pull,push""#;
        let challenges = read(&[text]);
        assert_eq!(challenges.len(), 1);
        assert_eq!(challenges[0].scheme, "bearer");
        assert_eq!(challenges[0].parameter("realm"), Some("https://auth.example/token?a=b,c"));
        assert_eq!(challenges[0].parameter("service"), Some("reg\"istry"));
        assert_eq!(challenges[0].parameter("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(challenges[0].parameter("error"), None);
    }

    #[test]
    fn several_challenges_are_parted() {
        let text = r#"Basic realm="x", Bearer realm="https://a/",service=s"#;
        assert_eq!(schemes(&[text]), ["basic", "bearer"]);
        assert_eq!(read(&[text])[1].parameter("service"), Some("s"));
        assert_eq!(schemes(&["Basic realm=x", "Bearer realm=y"]), ["basic", "bearer"]);
        assert_eq!(schemes(&["Negotiate, NTLM abc==, Basic realm=x"]), ["negotiate", "ntlm", "basic"]);
        assert_eq!(schemes(&[", ,Basic,"]), ["basic"]);
    }

    #[test]
    fn odd_ones_do_not_hide_good_ones() {
        assert_eq!(schemes(&[r#"@@@ "a,b", Basic realm="x""#]), ["basic"]);
        assert!(read(&[r#"realm="no scheme""#]).is_empty());
        // A parameter never joins the challenge of another header.
        assert_eq!(read(&["Basic", r#"realm="x""#])[0].parameter("realm"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut challenges = Vec::new();
            parse(&bytes, &mut challenges);
            prop_assert!(challenges.len() <= MAX_ITEMS);
        }

        #[test]
        fn near_misses_are_survived(text in r#"((Bearer|Basic|realm|=|"|,| |\\|a|/){0,40})"#) {
            parse(text.as_bytes(), &mut Vec::new());
        }

        #[test]
        fn quoted_values_survive_a_round_trip(value in "[ -~]{0,60}") {
            let quoted = value.replace('\\', r"\\").replace('"', "\\\"");
            let challenges = read(&[&format!("Bearer realm=\"{quoted}\", Basic realm=x")]);
            prop_assert_eq!(challenges.len(), 2);
            prop_assert_eq!(challenges[0].parameter("realm"), Some(value.as_str()));
        }
    }
}
