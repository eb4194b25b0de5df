//! Reads PEM without leaving copies of what may be a private key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Blocks in one text at most: a chain, or a key with its parameters, has a handful.
const MAX_BLOCKS: usize = 16;

/// One block.
pub(crate) struct Block {
    /// What it says it is: `CERTIFICATE`, `PRIVATE KEY`, …
    pub(crate) label: String,
    /// Its content. Wiped on drop.
    pub(crate) der: Zeroizing<Vec<u8>>,
}

/// Why a text is not PEM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum PemError {
    #[error("there is no PEM block (-----BEGIN …-----)")]
    NoBlock,
    #[error("the PEM block {label:?} has no end")]
    NoEnd { label: String },
    #[error("the PEM block {label:?} is not base64")]
    NotBase64 { label: String },
    #[error("the PEM block {label:?} is encrypted")]
    Encrypted { label: String },
    #[error("there are more than {MAX_BLOCKS} PEM blocks")]
    TooMany,
}

/// All blocks of a text, at least one. What stands around them is ignored, as is how the
/// lines are broken: devices break them as they please.
pub(crate) fn blocks(text: &str) -> Result<Vec<Block>, PemError> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        if blocks.len() == MAX_BLOCKS {
            return Err(PemError::TooMany);
        }
        let (label, after) = after.split_once("-----").ok_or(PemError::NoBlock)?;
        // Errors show the label, and are logged: it must not be a key behind a broken mark.
        if label.len() > 64 || !label.bytes().all(|it| it == b' ' || it.is_ascii_graphic()) {
            return Err(PemError::NoBlock);
        }
        let label = label.to_owned();
        let Some((body, after)) = after.split_once(&format!("-----END {label}-----")) else {
            return Err(PemError::NoEnd { label });
        };
        let der = decode(body, &label)?;
        blocks.push(Block { label, der });
        rest = after;
    }
    if blocks.is_empty() {
        return Err(PemError::NoBlock);
    }
    Ok(blocks)
}

fn decode(body: &str, label: &str) -> Result<Zeroizing<Vec<u8>>, PemError> {
    // OpenSSL's old encrypted keys carry headers; newer ones say it in their label.
    if label.starts_with("ENCRYPTED ") || body.contains("Proc-Type:") {
        return Err(PemError::Encrypted { label: label.to_owned() });
    }
    let mut digits = Zeroizing::new(Vec::with_capacity(body.len()));
    digits.extend(body.bytes().filter(|it| !it.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; base64::decoded_len_estimate(digits.len())]);
    let length = STANDARD
        .decode_slice(&*digits, &mut der)
        .map_err(|_| PemError::NotBase64 { label: label.to_owned() })?;
    der.truncate(length);
    Ok(der)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::to_pem;

    fn labels(text: &str) -> Result<Vec<(String, Vec<u8>)>, PemError> {
        Ok(blocks(text)?.into_iter().map(|it| (it.label, it.der.to_vec())).collect())
    }

    #[test]
    fn blocks_are_read_whatever_stands_around_them_and_however_lines_break() {
        let [a, b] = [to_pem("A", &[1; 100]), to_pem("B C", &[2; 3])];
        let expected = Ok(vec![("A".to_owned(), vec![1; 100]), ("B C".to_owned(), vec![2; 3])]);
        let text = format!("subject=CN=x\n{}\nfriendlyName: y\n{}", *a, *b);
        assert_eq!(labels(&text), expected);
        assert_eq!(labels(&text.replace('\n', "\r\n")), expected);
        assert_eq!(labels(&text.replace('\n', "\r")), expected);
        assert_eq!(labels(&text.replace('\n', " ")), expected);
        assert_eq!(labels(&text.replace('\n', "")), expected);
    }

    #[test]
    fn what_is_not_pem_is_refused_by_reason() {
        let pem = to_pem("KEY", &[7; 50]);
        assert_eq!(labels(""), Err(PemError::NoBlock));
        assert_eq!(labels("BwcHBw=="), Err(PemError::NoBlock));
        let label = || "KEY".to_owned();
        assert_eq!(labels(&pem.replace("END KEY", "END CAT")), Err(PemError::NoEnd { label: label() }));
        assert_eq!(labels(&pem[..40]), Err(PemError::NoEnd { label: label() }));
        assert_eq!(labels(&pem.replace("BwcH", "Bw?H")), Err(PemError::NotBase64 { label: label() }));
        assert_eq!(labels(&pem.replace("BwcH", "Bw=H")), Err(PemError::NotBase64 { label: label() }));
        assert_eq!(labels(&pem.repeat(MAX_BLOCKS)).map(|it| it.len()), Ok(MAX_BLOCKS));
        assert_eq!(labels(&pem.repeat(MAX_BLOCKS + 1)), Err(PemError::TooMany));
        let headed = pem.replace("KEY-----\nBw", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nBw");
        assert_eq!(labels(&headed), Err(PemError::Encrypted { label: label() }));
        assert!(matches!(labels(&to_pem("ENCRYPTED PRIVATE KEY", b"x")), Err(PemError::Encrypted { .. })));
    }

    #[test]
    fn an_error_never_shows_what_was_between_the_marks() {
        for text in
            ["-----BEGIN KEY\nc2VjcmV0-----", "-----BEGIN KEY----c2VjcmV0", "-----BEGIN KEY-----c2VjcmV0!"]
        {
            assert!(!format!("{:?}", labels(text).unwrap_err()).contains("c2VjcmV0"));
        }
    }
}
