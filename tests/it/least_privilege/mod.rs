//! `check-config --iam` against what the simulated cloud saw: for each kind of configuration a station goes
//! through all that it may ever do. Every call has to be allowed, on the resource that it is about; and every
//! entry of the list has to be needed by a call.

mod life;

use std::collections::BTreeSet;

use linemint::cloud::{Operation, Service};
use linemint::rehearsal::cloud::LedgerRow;
use serde_json::Value;

use self::life::{Life, Register};

/// The account of the simulated cloud, and another one.
const ACCOUNT: &str = "123456789012";

/// What an operation's permission can be narrowed to, as AWS's Service Authorization Reference has it.
fn resource_of(row: &LedgerRow) -> String {
    use Operation as O;
    let operation: Operation = row.operation.parse().unwrap();
    let service = operation.service().iam_prefix();
    let one = |kind: &str, name: &str| format!("arn:aws:{service}:eu-west-1:{ACCOUNT}:{kind}/{name}");
    match operation {
        O::CreateThing | O::DescribeThing | O::DeleteThing | O::ListThingPrincipals => {
            one("thing", &row.resource)
        }
        O::CreatePolicy | O::GetPolicy | O::DeletePolicy => one("policy", &row.resource),
        O::DescribeCertificate
        | O::UpdateCertificate
        | O::DeleteCertificate
        | O::AttachPolicy
        | O::DetachPolicy
        | O::ListAttachedPolicies
        | O::AttachThingPrincipal
        | O::DetachThingPrincipal => one("cert", "0123456789abcdef"),
        O::DescribeCaCertificate => one("cacert", &row.resource),
        O::GetCredentialLocker | O::DeleteCredentialLocker => one("credential-locker", &row.resource),
        O::GetManagedThing | O::DeleteManagedThing => one("managed-thing", &row.resource),
        _ => "*".to_owned(),
    }
}

/// An action on a resource.
type Pair = (String, String);

/// What a call needs.
fn needed(row: &LedgerRow) -> Vec<Pair> {
    let operation: Operation = row.operation.parse().unwrap();
    let prefix = operation.service().iam_prefix();
    let mut needed = vec![(format!("{prefix}:{}", operation.aws_name()), resource_of(row))];
    if row.tagged {
        // On what is made: of a locker nobody knows the id before.
        let made = match operation.service() {
            Service::Iot => resource_of(row),
            Service::ManagedIntegrations => {
                format!("arn:aws:{prefix}:eu-west-1:{ACCOUNT}:credential-locker/made")
            }
        };
        needed.push((format!("{prefix}:TagResource"), made));
    }
    needed
}

fn granted(life: &Life) -> BTreeSet<Pair> {
    let (status, out, log) = life.world.command(&["check-config", "--iam"]);
    assert_eq!(status, 0, "{log}");
    let policy: Value = serde_json::from_str(&out).unwrap();
    let mut granted = BTreeSet::new();
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        for action in statement["Action"].as_array().unwrap() {
            for resource in statement["Resource"].as_array().unwrap() {
                let text = |it: &Value| it.as_str().unwrap().to_owned();
                granted.insert((text(action), text(resource)));
            }
        }
    }
    granted
}

/// Whether `name` is among what `pattern`, with a `*` for anything, stands for.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
        }),
    }
}

/// The list is what the calls of this life needed: no call is beyond it, and nothing of it is for nothing.
fn holds(mut life: Life) {
    life.is_lived();
    let granted = granted(&life);
    let calls = life.calls();
    assert!(calls.len() > 15, "it hardly lived: {calls:#?}");
    let needed: BTreeSet<Pair> = calls.iter().flat_map(needed).collect();
    let grants = |of: &Pair, it: &Pair| of.0 == it.0 && fits(&of.1, &it.1);
    let refused: Vec<_> = needed.iter().filter(|it| !granted.iter().any(|of| grants(of, it))).collect();
    let unused: Vec<_> = granted.iter().filter(|of| !needed.iter().any(|it| grants(of, it))).collect();
    assert!(
        refused.is_empty() && unused.is_empty(),
        "not allowed: {refused:#?}\nallowed and never needed: {unused:#?}"
    );
    life.assert_narrow(&granted);
}

/// What a product says beside what every test's says.
fn product(text: &str) -> String {
    format!("[product.thermostat]\n{text}\n")
}

#[test]
fn patterns_are_held_as_iam_holds_them() {
    assert!(fits("*", "") && fits("thing/a-*", "thing/a-1") && fits("a*c*e", "abcde") && fits("a", "a"));
    assert!(!fits("thing/a-*", "thing/b-1") && !fits("a*c", "ab") && !fits("a", "ab"));
}

#[test]
fn all_of_a_devices_own_without_a_registered_ca() {
    holds(Life::of(""));
}

#[test]
fn names_of_its_own_and_tags() {
    let text = "thing = \"line-{serial}\"\nlocker = { name = \"line {serial}\", tags = { product = \"{product}\" } }\n\
                policy = { name = \"line-{serial}\", document = \"policy.json\", tags = { product = \"{product}\" } }";
    holds(Life::of(&product(text)).named("line-"));
}

#[test]
fn a_policy_for_the_product_and_a_locker_for_the_batch() {
    let text = "require_batch = true\nlocker = { scope = \"batch\", name = \"{batch}\", tags = { batch = \"{batch}\" } }\n\
                policy = { scope = \"product\", name = \"all-{product}\", document = \"policy.json\", tags = { a = \"b\" } }";
    holds(Life::of(&product(text)).with_batch());
}

#[test]
fn a_locker_for_the_batch_and_managed_things_in_it() {
    let text = "require_batch = true\nlocker = { scope = \"batch\", name = \"{batch}\" }\n\
                upc = \"036000291452\"\nmanaged_thing = { role = \"device\" }";
    holds(Life::of(&product(text)).with_batch());
}

#[test]
fn a_policy_and_a_locker_that_a_person_has_made() {
    let text =
        "policy = { scope = \"given\", name = \"given\" }\nlocker = { scope = \"given\", id = \"LOCKER\" }";
    holds(Life::of(&product(text)));
}

#[test]
fn managed_things_in_a_locker_that_a_person_has_made() {
    let text = "locker = { scope = \"given\", id = \"LOCKER\" }\nupc = \"036000291452\"\n\
                managed_thing = { role = \"device\" }";
    holds(Life::of(&product(text)));
}

#[test]
fn managed_things_in_lockers_of_their_own() {
    let text = "upc = \"036000291452\"\nmanaged_thing = { role = \"controller\" }";
    holds(Life::of(&product(text)));
}

#[test]
fn neither_a_policy_nor_a_locker() {
    let text = "policy = { scope = \"none\" }\nlocker = { scope = \"none\" }";
    holds(Life::of(&product(text)));
}

#[test]
fn a_registered_ca() {
    holds(Life::of(&product("certificate = { register = \"with-ca\" }")).registered(Register::WithCa));
}

/// While the CA before it can be read, what that has signed is on the account's list alone; and when it can not, all are
/// on the list of the one CA that is left.
#[test]
fn a_registered_ca_and_the_one_before_it() {
    let life = Life::of(&product("certificate = { register = \"with-ca\" }")).registered(Register::WithCa);
    holds(life.with_previous_ca());
}

/// Until the first of the others is made, all are on the list of the CA.
#[test]
fn a_registered_ca_beside_a_product_without() {
    let life = Life::of(&product("certificate = { register = \"with-ca\" }")).registered(Register::WithCa);
    holds(life.with_lamps_without_ca());
}

#[test]
fn the_first_connection_registers() {
    holds(Life::of(&product("certificate = { register = \"jitp\" }")).registered(Register::Jitp));
}

#[test]
fn the_first_connection_registers_and_there_is_no_policy() {
    let text =
        "certificate = { register = \"jitp\" }\npolicy = { scope = \"none\" }\nlocker = { scope = \"none\" }";
    holds(Life::of(&product(text)).registered(Register::Jitp));
}

#[test]
fn aws_issues() {
    let text = "certificate = { issuer = \"aws\" }";
    holds(Life::of(&product(text)).registered(Register::Aws));
}

#[test]
fn devices_make_their_keys_and_aws_issues() {
    let text = "certificate = { issuer = \"aws\", key = \"device\" }\nverify = \"cloud\"";
    holds(Life::of(&product(text)).registered(Register::Aws).with_keys_of_devices());
}

#[test]
fn devices_make_their_keys() {
    holds(Life::of(&product("certificate = { key = \"device\" }")).with_keys_of_devices());
}

#[test]
fn what_the_cloud_holds_is_read_before_pass() {
    for register in ["without-ca", "jitp"] {
        let of = if register == "jitp" { Register::Jitp } else { Register::WithoutCa };
        let text = format!("verify = \"cloud\"\ncertificate = {{ register = \"{register}\" }}");
        holds(Life::of(&product(&text)).registered(of));
    }
}

#[test]
fn repeated_devices_are_renewed() {
    holds(Life::of(&product("repeat = \"renew\"")).renewing());
}

#[test]
fn repeated_devices_of_the_first_connection_are_renewed() {
    let text = "repeat = \"renew\"\ncertificate = { register = \"jitp\" }";
    holds(Life::of(&product(text)).registered(Register::Jitp).renewing());
}
