//! Against SoftHSM 2, a token in software that speaks PKCS #11 like any other.

use std::path::Path;
use std::process::Command;

use cryptoki::object::AttributeType;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyUsagePurpose};

use super::*;
use crate::clock::{SystemClock, TimeSource as _};
use crate::pki::{LeafKey, authority};

const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];
/// Where the token of the inner run is.
const INNER: &str = "LINEMINT_TEST_TOKEN_DIR";

fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn module() -> Option<PathBuf> {
    MODULES.iter().map(PathBuf::from).find(|it| it.exists())
}

fn options(pin: &str, token: &str) -> TokenOptions {
    let uri = format!("pkcs11:token={token};object=ca;id=%01").parse().unwrap();
    TokenOptions { uri, module: module().unwrap(), pin: Zeroizing::new(pin.to_owned()) }
}

fn request(number: usize) -> LeafRequest {
    LeafRequest { common_name: format!("SN{number}"), days: 3650, key: LeafKey::Station }
}

/// The module is told where its tokens are by the environment, which a test cannot change for itself: it
/// runs itself once more.
#[test]
fn five_hundred_certificates_come_from_a_key_that_never_leaves_its_token() {
    if let Some(dir) = std::env::var_os(INNER) {
        return inside(Path::new(&dir));
    }
    let (Some(_), Ok(_)) = (module(), Command::new("softhsm2-util").arg("--version").output()) else {
        eprintln!("SKIPPED: SoftHSM 2 is not installed; nothing was shown of keys in tokens");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tokens")).unwrap();
    let conf = dir.path().join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n",
        dir.path().display()
    );
    crate::durable_fs::create_new(&conf, 0o600, text.as_bytes()).unwrap();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "Line3", "--pin", "123456", "--so-pin", "654321"])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let name = "pki::pkcs11::tests::five_hundred_certificates_come_from_a_key_that_never_leaves_its_token";
    let ran = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env("SOFTHSM2_CONF", &conf)
        .env(INNER, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[&ran.stdout[..], &ran.stderr[..]].concat()).into_owned();
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    said.lines().filter(|it| it.starts_with("rate:")).for_each(|it| eprintln!("{it}"));
}

fn inside(dir: &Path) {
    let module = load(&options("123456", "Line3")).unwrap();
    let point = made_in_token(&module);
    let pem = certified(&point);
    let issuer = TokenIssuer::open(&pem, options("123456", "Line3"), now()).unwrap();
    let clock = SystemClock::default();
    let begin = clock.now().mono;
    for number in 0..500 {
        issuer.issue(&request(number), now()).unwrap();
    }
    let token = clock.now().mono - begin;
    let root = authority::make_root("file", now()).unwrap();
    let file = StationIssuer::load(&root.certificate_pem, root.key_pem, now()).unwrap();
    let begin = clock.now().mono;
    for number in 0..500 {
        file.issue(&request(number), now()).unwrap();
    }
    let rate = |span: Duration| 500.0 / span.as_secs_f64();
    eprintln!(
        "rate: {:.0} certificates a second from SoftHSM, {:.0} from a file's key",
        rate(token),
        rate(clock.now().mono - begin)
    );
    lost_and_found(dir, &issuer, module);
    // A login is the whole process's: nobody may be logged in where a PIN is to be refused.
    load(&options("123456", "Line3")).unwrap().finalize().unwrap();
    refused(&pem);
}

/// A P-256 key pair that the token has made and does not give away; its point.
fn made_in_token(module: &Pkcs11) -> Vec<u8> {
    let slot = slot(module, &options("123456", "Line3").uri).unwrap();
    let session = module.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&AuthPin::from("123456"))).unwrap();
    let p256 = vec![6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    let named = || vec![Attribute::Token(true), Attribute::Label(b"ca".to_vec()), Attribute::Id(vec![1])];
    let public = [named(), vec![Attribute::EcParams(p256), Attribute::Verify(true)]].concat();
    let hidden = vec![
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
    ];
    let (public, private) =
        session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &[named(), hidden].concat()).unwrap();
    let kept = session.get_attributes(private, &[AttributeType::Value]).unwrap_or_default();
    assert!(kept.is_empty(), "the token gives its key away");
    let point = session.get_attributes(public, &[AttributeType::EcPoint]).unwrap();
    let [Attribute::EcPoint(point)] = point.as_slice() else { panic!("no point") };
    // The point comes wrapped as an octet string.
    point[point.len() - 65..].to_vec()
}

/// A CA certificate for the key in the token, signed by it.
fn certified(point: &[u8]) -> String {
    let key = TokenKey::start(options("123456", "Line3"), Curve::P256, point.to_vec()).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.self_signed(&key).unwrap().pem()
}

/// The token is pulled out, and put back.
fn lost_and_found(dir: &Path, issuer: &TokenIssuer, module: Pkcs11) {
    std::fs::rename(dir.join("tokens"), dir.join("pulled")).unwrap();
    std::fs::create_dir(dir.join("tokens")).unwrap();
    module.finalize().unwrap();
    for _ in 0..3 {
        let error = issuer.issue(&request(0), now()).unwrap_err();
        assert!(error.to_string().contains("the token \"Line3\" is not there"), "{error}");
    }
    std::fs::remove_dir(dir.join("tokens")).unwrap();
    std::fs::rename(dir.join("pulled"), dir.join("tokens")).unwrap();
    issuer.issue(&request(0), now()).unwrap();
}

fn refused(pem: &str) {
    let said = |pem: &str, options| {
        let error = TokenIssuer::open(pem, options, now()).unwrap_err();
        let text = crate::error::Chain(&error).to_string();
        assert!(!text.contains("123456") && !text.contains("999999"), "{text}");
        text
    };
    assert!(said(pem, options("999999", "Line3")).contains("the token refuses the PIN"), "a wrong PIN");
    assert!(said(pem, options("123456", "Line4")).contains("the token \"Line4\" is not there"));
    let other = authority::make_root("another key's", now()).unwrap().certificate_pem;
    assert!(said(&other, options("123456", "Line3")).contains("does not fit the CA's certificate"));
    let nobody = TokenOptions { module: "/none.so".into(), ..options("123456", "Line3") };
    assert!(said(pem, nobody).contains("the PKCS #11 module /none.so cannot be loaded"));
}

/// A key whose token is played here.
fn played(answer: impl Fn(Request) + Send + 'static) -> TokenKey {
    let (requests, to_sign) = sync_channel(1);
    std::thread::spawn(move || to_sign.iter().for_each(answer));
    TokenKey { requests, curve: Curve::P256, public_key: vec![4; 65], trouble: Arc::default() }
}

#[test]
fn a_wrong_signature_is_never_used() {
    for (signature, sentence, another) in
        [(vec![1; 64], WRONG_SIGNATURE, true), (vec![1; 63], "has 63 bytes instead of 64", false)]
    {
        let key = played(move |it| it.reply.send(Ok(signature.clone())).unwrap());
        assert!(key.sign(b"to be signed").is_err());
        let error = key.said(IssueError::Sign(rcgen::Error::RemoteKeyError));
        assert!(error.to_string().contains(sentence), "{error}");
        assert_eq!(matches!(error, IssueError::TokenKey(_)), another, "{error:?}");
    }
}

/// SoftHSM never locks itself: what other tokens say then is played.
#[test]
fn a_token_that_is_locked_is_told_and_not_asked_again() {
    let said = |it| kept_out(&TokenError::Pkcs11(it, cryptoki::context::Function::Login));
    for locked in [RvError::PinLocked, RvError::PinExpired, RvError::PinIncorrect] {
        let sentence = said(locked);
        assert!(
            sentence.starts_with(PIN_REFUSED) && sentence.contains("it is not tried again"),
            "{sentence}"
        );
    }
    assert!(said(RvError::PinLocked).contains("PinLocked"));
    assert!(said(RvError::DeviceRemoved).contains("does not let the station in"));
}

#[test]
fn a_token_that_does_not_answer_keeps_nobody_waiting_behind_it() {
    let (requests, _never) = sync_channel(1);
    let key = TokenKey { requests, curve: Curve::P256, public_key: vec![4; 65], trouble: Arc::default() };
    let (reply, _answer) = sync_channel(1);
    key.requests.send(Request { digest: Vec::new(), reply }).unwrap();
    assert!(key.sign(b"to be signed").is_err());
    let error = key.said(IssueError::Sign(rcgen::Error::RemoteKeyError)).to_string();
    assert!(error.contains("has not answered an earlier request yet"), "{error}");
}

#[test]
fn a_ca_key_of_rsa_is_not_for_tokens() {
    // RSA in a token would need another mechanism; it is told before the token is asked.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let pem = params.self_signed(&key).unwrap().pem();
    let options = TokenOptions {
        uri: "pkcs11:token=a;object=b".parse().unwrap(),
        module: "/none.so".into(),
        pin: Zeroizing::new(String::new()),
    };
    let error = TokenIssuer::open(&pem, options, now()).unwrap_err();
    assert!(matches!(error, CaError::TokenKind { .. }), "{error}");
}
