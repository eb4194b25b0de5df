//! A CA key that never leaves its token (HSM, smart card), spoken with through its PKCS #11 module.
//!
//! The module is code of somebody else's that may block for as long as it likes: it runs on a thread of its own,
//! and whoever asks waits for a bounded time. What is signed is a digest that was made here, since many tokens
//! know plain ECDSA only; and a signature is checked against the CA's certificate before it is used. After a
//! failure everything is opened anew, so that a token that was pulled out works again when it is back.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256, SHA384};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, UnparsedPublicKey};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use jiff::Timestamp;
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PublicKeyData, SignatureAlgorithm, SigningKey};
use zeroize::Zeroizing;

use super::chain::CaChain;
use super::issuer::{CaError, StationIssuer};
use super::public_key::KeyKind;
use super::summary::CaEnd;
use super::token::{TokenUri, der_signature};
use super::{Fingerprint, IssueError, IssuedLeaf, Issuer, LeafRequest};

/// How long a signature is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a key is, and how it is reached.
#[derive(Clone)]
pub struct TokenOptions {
    /// The key.
    pub uri: TokenUri,
    /// The PKCS #11 module.
    pub module: PathBuf,
    /// The user's PIN.
    pub pin: Zeroizing<String>,
}

impl std::fmt::Debug for TokenOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenOptions")
            .field("uri", &self.uri)
            .field("module", &self.module)
            .finish_non_exhaustive()
    }
}

/// A CA whose key is in a token.
#[derive(Debug)]
pub struct TokenIssuer {
    issuer: StationIssuer<TokenKey>,
    key: TokenKey,
}

impl TokenIssuer {
    /// Opens the token and has it sign a certificate for trial.
    ///
    /// # Errors
    /// As for [`StationIssuer::load`](super::issuer::StationIssuer::load); the token cannot be used now.
    pub fn open(ca_pem: &str, options: TokenOptions, now: Timestamp) -> Result<Self, CaError> {
        let chain = CaChain::parse(ca_pem, now)?;
        let curve = match chain.kind {
            KeyKind::P256 => Curve::P256,
            KeyKind::P384 => Curve::P384,
            KeyKind::Rsa { .. } => return Err(CaError::TokenKind { subject: chain.subject }),
        };
        let key = TokenKey::start(options, curve, chain.public_key).map_err(CaError::TokenThread)?;
        match StationIssuer::with_key(ca_pem, key.clone(), now) {
            Ok(issuer) => Ok(Self { issuer, key }),
            Err(CaError::Trial(error)) => Err(CaError::Trial(key.said(error))),
            Err(other) => Err(other),
        }
    }

    /// The CA's subject, for people.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.issuer.subject()
    }

    /// Whether it, or a CA above it in its file, holds its leaves to names.
    #[must_use]
    pub const fn is_constrained(&self) -> bool {
        self.issuer.is_constrained()
    }

    /// When it can issue no more.
    #[must_use]
    pub const fn end(&self) -> &CaEnd {
        self.issuer.end()
    }
}

impl Issuer for TokenIssuer {
    fn issue(&self, request: &LeafRequest, now: Timestamp) -> Result<IssuedLeaf, IssueError> {
        self.issuer.issue(request, now).map_err(|error| self.key.said(error))
    }

    fn ca(&self) -> Fingerprint {
        self.issuer.ca()
    }

    fn ca_pem(&self) -> &str {
        self.issuer.ca_pem()
    }

    fn chain_pem(&self) -> &str {
        self.issuer.chain_pem()
    }
}

#[derive(Debug, Clone, Copy)]
enum Curve {
    P256,
    P384,
}

/// A digest to be signed, and where the signature goes.
struct Request {
    digest: Vec<u8>,
    reply: SyncSender<Result<Vec<u8>, String>>,
}

/// The key, as rcgen sees it.
#[derive(Clone)]
pub struct TokenKey {
    requests: SyncSender<Request>,
    curve: Curve,
    /// The point, as the CA's certificate has it.
    public_key: Vec<u8>,
    /// What went wrong last.
    trouble: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("curve", &self.curve).finish_non_exhaustive()
    }
}

impl TokenKey {
    fn start(options: TokenOptions, curve: Curve, public_key: Vec<u8>) -> io::Result<Self> {
        let (requests, to_sign) = sync_channel(1);
        let thread = std::thread::Builder::new().name("token".to_owned());
        thread.spawn(move || work(&options, &to_sign))?;
        Ok(Self { requests, curve, public_key, trouble: Arc::default() })
    }

    fn ask(&self, digest: Vec<u8>) -> Result<Vec<u8>, String> {
        let (reply, answer) = sync_channel(1);
        self.requests.try_send(Request { digest, reply }).map_err(|error| match error {
            TrySendError::Full(_) => "the token has not answered an earlier request yet".to_owned(),
            TrySendError::Disconnected(_) => "the token's thread has ended".to_owned(),
        })?;
        match answer.recv_timeout(PATIENCE) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("the token does not answer within {} seconds", PATIENCE.as_secs()))
            }
            Err(RecvTimeoutError::Disconnected) => Err("the token's thread has ended".to_owned()),
        }
    }

    /// A signature over `message`, DER, that fits the CA's certificate.
    fn checked(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let (algorithm, length) = match self.curve {
            Curve::P256 => (&SHA256, 64),
            Curve::P384 => (&SHA384, 96),
        };
        let raw = self.ask(digest::digest(algorithm, message).as_ref().to_vec())?;
        let signature = der_signature(&raw, length)
            .ok_or_else(|| format!("the token's signature has {} bytes instead of {length}", raw.len()))?;
        let verifier = match self.curve {
            Curve::P256 => &ECDSA_P256_SHA256_ASN1,
            Curve::P384 => &ECDSA_P384_SHA384_ASN1,
        };
        let fits = UnparsedPublicKey::new(verifier, &self.public_key).verify(message, &signature).is_ok();
        if fits { Ok(signature) } else { Err(WRONG_SIGNATURE.to_owned()) }
    }

    /// An error with what the token has said in the place of rcgen's.
    fn said(&self, error: IssueError) -> IssueError {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (error, trouble) {
            (IssueError::Sign(_), Some(trouble)) if trouble.starts_with(PIN_REFUSED) => {
                IssueError::TokenPin(trouble)
            }
            (IssueError::Sign(_), Some(trouble)) if WRONG_KEY.contains(&trouble.as_str()) => {
                IssueError::TokenKey(trouble)
            }
            (IssueError::Sign(_), Some(trouble)) => IssueError::Token(trouble),
            (other, _) => other,
        }
    }
}

const WRONG_SIGNATURE: &str =
    "the token's signature does not fit the CA's certificate: it is another key, or the token is broken";
const NO_KEY: &str = "the token has no such private key that may sign";
const SEVERAL_KEYS: &str = "the token has several such private keys: name it by id as well";

/// What a token says that is there and answers, and of which the configuration names the wrong key.
const WRONG_KEY: [&str; 3] = [WRONG_SIGNATURE, NO_KEY, SEVERAL_KEYS];

impl PublicKeyData for TokenKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public_key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.curve {
            Curve::P256 => &PKCS_ECDSA_P256_SHA256,
            Curve::P384 => &PKCS_ECDSA_P384_SHA384,
        }
    }
}

impl SigningKey for TokenKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signed = self.checked(message);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = signed.as_ref().err().cloned();
        signed.map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// A token that is open, with its key.
struct Live {
    session: Session,
    key: ObjectHandle,
}

/// The thread: ends when nobody can ask any more.
fn work(options: &TokenOptions, to_sign: &Receiver<Request>) {
    let mut module: Option<Pkcs11> = None;
    let mut live: Option<Live> = None;
    // A token locks itself after a few wrong PINs: a wrong one is tried once.
    let mut wrong_pin: Option<String> = None;
    while let Ok(Request { digest, reply }) = to_sign.recv() {
        let mut signed = Err(wrong_pin.clone().unwrap_or_default());
        // What was open may be stale; what has just been opened is not.
        let tries = if wrong_pin.is_some() { 0 } else { 2 };
        for _ in 0..tries {
            let fresh = live.is_none();
            signed = sign(options, (&mut module, &mut live), &digest);
            if signed.is_ok() || fresh {
                break;
            }
            close(&mut module, &mut live);
        }
        if signed.is_err() {
            close(&mut module, &mut live);
        }
        let tried = |it: &&String| it.starts_with(PIN_REFUSED) && *it != LAST_TRY;
        wrong_pin = signed.as_ref().err().filter(tried).cloned();
        // Whoever asked may have given up.
        let _ = reply.send(signed);
    }
}

/// Lets go of everything: most modules look for tokens only when they are initialised.
fn close(module: &mut Option<Pkcs11>, live: &mut Option<Live>) {
    *live = None;
    if let Some(Err(error)) = module.take().map(Pkcs11::finalize) {
        tracing::debug!(%error, "the PKCS #11 module was finalised before");
    }
}

const PIN_REFUSED: &str = "the token refuses the PIN";

/// Starts and looks of the doctor each try a PIN once, and together they could lock a token for good. To see that costs
/// no try, so that it is seen anew each time.
const LAST_TRY: &str = "the token refuses the PIN before it is tried: wrong ones were given to it, and one more wrong PIN locks it; \
                        log in once with the right one, with the token's own tool; if it is not the one here, correct that and restart";

fn sign(
    options: &TokenOptions,
    (module, live): (&mut Option<Pkcs11>, &mut Option<Live>),
    digest: &[u8],
) -> Result<Vec<u8>, String> {
    let it = match live {
        Some(it) => it,
        None => {
            let module = match module {
                Some(it) => it,
                None => module.insert(load(options)?),
            };
            live.insert(open(module, options)?)
        }
    };
    it.session
        .sign(&Mechanism::Ecdsa, it.key, digest)
        .map_err(|error| format!("the token does not sign: {error}"))
}

fn load(options: &TokenOptions) -> Result<Pkcs11, String> {
    let path = options.module.display();
    let module = Pkcs11::new(&options.module)
        .map_err(|error| format!("the PKCS #11 module {path} cannot be loaded: {error}"))?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(TokenError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
        Err(error) => Err(format!("the PKCS #11 module {path} cannot be used: {error}")),
    }
}

fn open(module: &Pkcs11, options: &TokenOptions) -> Result<Live, String> {
    let slot = slot(module, &options.uri)?;
    if module.get_token_info(slot).is_ok_and(|it| it.user_pin_final_try() && !it.user_pin_locked()) {
        return Err(LAST_TRY.to_owned());
    }
    let session =
        module.open_ro_session(slot).map_err(|error| format!("the token cannot be opened: {error}"))?;
    let pin = AuthPin::from(options.pin.as_str());
    match session.login(UserType::User, Some(&pin)) {
        Ok(()) | Err(TokenError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
        Err(error) => return Err(kept_out(&error)),
    }
    let key = key(&session, &options.uri)?;
    Ok(Live { session, key })
}

/// Why a token does not let the station in.
fn kept_out(error: &TokenError) -> String {
    match error {
        TokenError::Pkcs11(
            it @ (RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinLocked
            | RvError::PinExpired),
            _,
        ) => format!(
            "{PIN_REFUSED} ({it:?}); it is not tried again, since a token locks itself: correct the PIN and restart"
        ),
        error => format!("the token does not let the station in: {error}"),
    }
}

fn slot(module: &Pkcs11, uri: &TokenUri) -> Result<Slot, String> {
    let slots =
        module.get_slots_with_token().map_err(|error| format!("the token cannot be found: {error}"))?;
    let is_it = |slot: &Slot| {
        module.get_token_info(*slot).is_ok_and(|info| {
            uri.token.as_ref().is_none_or(|it| info.label() == it)
                && uri.serial.as_ref().is_none_or(|it| info.serial_number() == it)
                && uri.model.as_ref().is_none_or(|it| info.model() == it)
                && uri.manufacturer.as_ref().is_none_or(|it| info.manufacturer_id() == it)
        })
    };
    let mut found = slots.into_iter().filter(is_it);
    let name = uri.token.as_deref().or(uri.serial.as_deref()).unwrap_or_default();
    match (found.next(), found.next()) {
        (Some(slot), None) => Ok(slot),
        (None, _) => Err(format!("the token {name:?} is not there: plug it in, or correct pki.ca_key")),
        (Some(_), Some(_)) => Err(format!("there are several tokens {name:?}: name it by serial as well")),
    }
}

fn key(session: &Session, uri: &TokenUri) -> Result<ObjectHandle, String> {
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Sign(true)];
    template.extend(uri.object.as_ref().map(|it| Attribute::Label(it.clone().into_bytes())));
    template.extend(uri.id.as_ref().map(|it| Attribute::Id(it.clone())));
    let found =
        session.find_objects(&template).map_err(|error| format!("the key cannot be looked for: {error}"))?;
    match found.as_slice() {
        [key] => Ok(*key),
        [] => Err(NO_KEY.to_owned()),
        _ => Err(SEVERAL_KEYS.to_owned()),
    }
}

#[cfg(test)]
mod tests;
