//! Names a private key in a hardware security module: a PKCS #11 URI (RFC 7512).

use std::path::PathBuf;
use std::str::FromStr;

/// A key in a token, as far as the URI names it. Bytes as they are after percent-decoding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenUri {
    /// The token's label.
    pub token: Option<String>,
    /// The token's serial number.
    pub serial: Option<String>,
    /// The token's model.
    pub model: Option<String>,
    /// Who has made the token.
    pub manufacturer: Option<String>,
    /// The key's label (CKA_LABEL).
    pub object: Option<String>,
    /// The key's id (CKA_ID).
    pub id: Option<Vec<u8>>,
    /// The module that speaks with the token.
    pub module_path: Option<PathBuf>,
    /// The file that holds the PIN.
    pub pin_source: Option<PathBuf>,
}

/// The text names no key in a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTokenUri(String);

impl FromStr for TokenUri {
    type Err = BadTokenUri;

    fn from_str(text: &str) -> Result<Self, BadTokenUri> {
        let bad = |what: String| Err(BadTokenUri(what));
        let Some(rest) = text.strip_prefix("pkcs11:") else {
            return bad("it does not begin with pkcs11:".to_owned());
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut it = Self::default();
        for pair in path.split(';').filter(|it| !it.is_empty()) {
            let (name, bytes) = attribute(pair)?;
            match name {
                "token" => it.token = Some(words(name, bytes)?),
                "serial" => it.serial = Some(words(name, bytes)?),
                "model" => it.model = Some(words(name, bytes)?),
                "manufacturer" => it.manufacturer = Some(words(name, bytes)?),
                "object" => it.object = Some(words(name, bytes)?),
                "id" => it.id = Some(bytes),
                "type" if bytes == b"private" => {}
                "type" => return bad("its type has to be private".to_owned()),
                // Of where the token sits and of its module: token and key are named without them, and pki.pkcs11_module names
                // the module.
                "slot-id" | "slot-manufacturer" | "slot-description" => {}
                "library-manufacturer" | "library-description" | "library-version" => {}
                other => {
                    return bad(format!(
                        "{other:?} is none of token, serial, model, manufacturer, object, id, type"
                    ));
                }
            }
        }
        for pair in query.split('&').filter(|it| !it.is_empty()) {
            let (name, bytes) = attribute(pair)?;
            match name {
                "module-path" => it.module_path = Some(words(name, bytes)?.into()),
                "pin-source" => {
                    let source = words(name, bytes)?;
                    it.pin_source = Some(source.strip_prefix("file:").unwrap_or(&source).into());
                }
                "module-name" => {}
                "pin-value" => {
                    return bad("a PIN does not belong here: use pin-source, or pki.pkcs11_pin".to_owned());
                }
                other => return bad(format!("{other:?} is neither module-path nor pin-source")),
            }
        }
        match (&it.token, &it.serial, &it.object, &it.id) {
            (None, None, _, _) => bad("it names no token: add token=LABEL".to_owned()),
            (_, _, None, None) => bad("it names no key: add object=LABEL or id=%01".to_owned()),
            _ => Ok(it),
        }
    }
}

fn attribute(pair: &str) -> Result<(&str, Vec<u8>), BadTokenUri> {
    let bad = || {
        BadTokenUri(format!(
            "{:?} is not NAME=VALUE in percent-encoding",
            pair.split('=').next().unwrap_or("")
        ))
    };
    let (name, value) = pair.split_once('=').ok_or_else(bad)?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).filter(|it| it.iter().all(u8::is_ascii_hexdigit)).ok_or_else(bad)?;
        let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
        rest = &tail[2..];
    }
    Ok((name, bytes))
}

fn words(name: &str, bytes: Vec<u8>) -> Result<String, BadTokenUri> {
    String::from_utf8(bytes).map_err(|_| BadTokenUri(format!("{name} is not text in UTF-8")))
}

/// An ECDSA signature as tokens give it, r and s in one, as certificates have it: a DER sequence. None if
/// it has not `len` bytes.
pub(crate) fn der_signature(raw: &[u8], len: usize) -> Option<Vec<u8>> {
    if raw.len() != len || len == 0 || len > 128 {
        return None;
    }
    let (r, s) = raw.split_at(len / 2);
    let body = [integer(r), integer(s)].concat();
    let length = match u8::try_from(body.len()).ok()? {
        short @ 0..=127 => vec![short],
        long => vec![0x81, long],
    };
    Some([&[0x30][..], &length, &body].concat())
}

fn integer(digits: &[u8]) -> Vec<u8> {
    let first = digits.iter().position(|it| *it != 0).unwrap_or(digits.len().saturating_sub(1));
    let digits = &digits[first..];
    let sign: &[u8] = if digits.first().is_some_and(|it| it & 0x80 != 0) { &[0] } else { &[] };
    let length = u8::try_from(sign.len() + digits.len()).unwrap_or(u8::MAX);
    [&[2, length][..], sign, digits].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_token_and_key() {
        let it: TokenUri =
            "pkcs11:token=Line%203;object=ca;id=%01%ff;type=private?module-path=/usr/lib/p11.so&pin-source=file:/run/pin"
                .parse()
                .unwrap();
        assert_eq!((it.token.as_deref(), it.object.as_deref()), (Some("Line 3"), Some("ca")));
        assert_eq!((it.id.as_deref(), it.serial), (Some(&[1, 255][..]), None));
        assert_eq!(it.module_path, Some("/usr/lib/p11.so".into()));
        assert_eq!(it.pin_source, Some("/run/pin".into()));
        assert!("pkcs11:serial=0123;id=%01".parse::<TokenUri>().is_ok());
        // As `p11tool --list-tokens` prints it, with the key behind it.
        let it: TokenUri = "pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=01;token=ca;slot-id=3;object=k?module-name=p11"
            .parse()
            .unwrap();
        assert_eq!(
            (it.model.as_deref(), it.manufacturer.as_deref()),
            (Some("SoftHSM v2"), Some("SoftHSM project"))
        );
    }

    #[test]
    fn what_names_no_key_is_refused_and_a_pin_is_not_repeated() {
        for (text, sentence) in [
            ("token=a;object=b", "begin with pkcs11:"),
            ("pkcs11:", "names no token"),
            ("pkcs11:token=a", "names no key"),
            ("pkcs11:object=a", "names no token"),
            ("pkcs11:token=a;object=b;type=cert", "has to be private"),
            ("pkcs11:token=a;objct=b", "none of token"),
            ("pkcs11:token=%zz;object=b", "percent-encoding"),
            ("pkcs11:token=%ff;object=b", "not text"),
            ("pkcs11:token=a;object=b?pin-value=1234", "a PIN does not belong here"),
            ("pkcs11:token=a;object=b?slot=1234", "neither module-path"),
        ] {
            let error = text.parse::<TokenUri>().unwrap_err().to_string();
            assert!(error.contains(sentence) && !error.contains("1234"), "{text}: {error}");
        }
    }

    #[test]
    fn a_tokens_signature_becomes_der() {
        let raw = [&[0; 31][..], &[5], &[0x80; 32]].concat();
        let der = der_signature(&raw, 64).unwrap();
        assert_eq!(der[..6], [0x30, 3 + 35, 2, 1, 5, 2]);
        assert_eq!((der[6], der[7], der.len()), (33, 0, 40));
        assert_eq!(der_signature(&raw, 96), None);
        assert_eq!(der_signature(&[0xff; 96], 96).unwrap()[..3], [0x30, 102, 2]);
        assert_eq!(der_signature(&[], 0), None);
    }
}
