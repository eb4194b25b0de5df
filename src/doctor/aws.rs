//! AWS as this station would find it: reads only, through the limiter.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use futures_util::future::join_all;
use jiff::Timestamp;

use super::probes::{Probe, operations, probes};
use super::registered;
use super::{ACCOUNT, CA_REGISTERED, CREDENTIALS, ENDPOINT, Finding, PERMISSION, QUOTAS, REGION};
use crate::clock::TimeSource;
use crate::cloud::aws::{AwsCloud, AwsOptions, AwsSetupError, Caller};
use crate::cloud::pace::Paced;
use crate::cloud::{Answer, Class, Cloud, CloudError, FailureKind, Service, StopCause};
use crate::config::{Aws, Config, documented_quotas};
use crate::device::rules::{LockerRule, ProductRules};
use crate::error::Chain;
use crate::station::setup::aws_options;

/// Where AWS offers managed integrations (its Developer Guide, "What is managed integrations?", read 2026-11).
const LOCKER_REGIONS: [&str; 2] = ["eu-west-1", "ca-central-1"];

/// How long one call may take here, its turn at the limiter not counted.
const CALL_MAX: Duration = Duration::from_secs(10);

/// How long all of one permission's calls may take, their turns counted: a small share of a quota has
/// long turns.
const PROBE_MAX: Duration = Duration::from_secs(25);

/// Reads under way at once.
const IN_FLIGHT: usize = 4;

/// What came of a call; none if neither its turn nor its answer came in time.
type Outcome = Option<Result<Answer, CloudError>>;

/// All checks that need AWS, in their order.
///
/// `credentials` are for a simulation; without them the SDK's default chain is asked.
pub(super) async fn look(
    config: &Config,
    credentials: Option<Credentials>,
    clock: Arc<dyn TimeSource>,
) -> Vec<Finding> {
    let mut findings = vec![region(config)];
    let mut options = aws_options(&config.aws);
    options.call_timeout = options.call_timeout.min(CALL_MAX);
    let now = clock.now().wall;
    match set_up(options, stand_in(&config.aws), credentials).await {
        Ok((caller, cloud)) => {
            let registered = registered::look(config, &cloud).await;
            let cloud = Paced::new(cloud, config.aws.quotas.clone(), clock, IN_FLIGHT);
            findings.extend(ask(config, &caller, &cloud, now).await);
            findings.push(registered);
        }
        Err(error) => {
            let remedy = "put right what the sentence says in [aws] or in the environment";
            findings.push(CREDENTIALS.skipped("AWS cannot be set up"));
            findings.push(ACCOUNT.skipped("AWS cannot be set up"));
            findings.push(ENDPOINT.failed(Chain(&error).to_string(), remedy));
            findings.push(PERMISSION.skipped("AWS cannot be set up"));
            findings.push(CA_REGISTERED.skipped("AWS cannot be set up"));
        }
    }
    findings.push(quotas(config));
    findings
}

async fn set_up(
    options: AwsOptions,
    sts: Option<String>,
    credentials: Option<Credentials>,
) -> Result<(Caller, AwsCloud), AwsSetupError> {
    match credentials {
        Some(it) => {
            let caller = Caller::with_credentials(&options, sts, it.clone())?;
            Ok((caller, AwsCloud::with_credentials(options, it)?))
        }
        None => Ok((Caller::connect(&options, sts).await?, AwsCloud::connect(options).await?)),
    }
}

/// Where STS is: with what stands in for AWS, where something does.
fn stand_in(aws: &Aws) -> Option<String> {
    let url = aws.iot_endpoint.as_ref()?;
    let host = url.parse::<hyper::Uri>().ok().and_then(|it| it.host().map(str::to_owned)).unwrap_or_default();
    let by_aws = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"].iter().any(|it| host.ends_with(it));
    (!by_aws).then(|| url.clone())
}

async fn ask(config: &Config, caller: &Caller, cloud: &impl Cloud, now: Timestamp) -> Vec<Finding> {
    let until = match caller.credentials().await {
        Ok(until) => until,
        Err(why) => {
            let no = "there are no AWS credentials";
            let remedy = "put them where the SDK's default chain looks: the environment, ~/.aws of the daemon's user, a \
                 credentials process; run the doctor as that user";
            let rest = [&ACCOUNT, &ENDPOINT, &PERMISSION].map(|it| it.skipped(no));
            return std::iter::once(CREDENTIALS.failed(why, remedy)).chain(rest).collect();
        }
    };
    let account = caller.account().await;
    let nobody: String = (0..4).map(|_| format!("{:016x}", fastrand::u64(..))).collect();
    let known = account.as_deref().ok().or(config.aws.account.as_deref());
    let tried = try_all(cloud, probes(config, &nobody, known)).await;
    let all: Vec<&Outcome> = tried.iter().flat_map(|(_, outcomes)| outcomes).collect();
    let mut findings = vec![credentials(&all, until, now), whose(config, account, &all)];
    findings.extend(endpoints(&tried, &config.aws));
    findings.extend(permissions(&tried));
    findings
}

async fn try_all(cloud: &impl Cloud, probes: Vec<Probe>) -> Vec<(Probe, Vec<Outcome>)> {
    let each = probes.into_iter().map(|probe| async {
        let calls = probe.calls.iter().map(|call| async {
            tokio::time::timeout(PROBE_MAX, cloud.call_for(Class::Read, call)).await.ok()
        });
        let outcomes = join_all(calls).await;
        (probe, outcomes)
    });
    join_all(each).await
}

fn kind(outcome: &Outcome) -> Option<FailureKind> {
    outcome.as_ref()?.as_ref().err().map(|it| it.kind)
}

/// Whether AWS itself has answered, whatever it said.
fn answered(outcome: &Outcome) -> bool {
    match outcome {
        Some(Ok(_)) => true,
        Some(Err(error)) => error.code.is_some() || error.request_id.is_some(),
        None => false,
    }
}

/// AWS's first refusal for `cause`.
fn refusal<'a>(all: &[&'a Outcome], cause: StopCause) -> Option<&'a CloudError> {
    let stopped = |it: &&CloudError| it.kind == FailureKind::Stop(cause);
    all.iter().filter_map(|it| it.as_ref()?.as_ref().err()).find(stopped)
}

fn credentials(all: &[&Outcome], until: Option<Timestamp>, now: Timestamp) -> Finding {
    if let Some(error) = refusal(all, StopCause::Credentials) {
        return CREDENTIALS
            .failed(format!("AWS does not take them: {error}"), "renew them where they come from");
    }
    if let Some(error) = refusal(all, StopCause::Clock) {
        return CREDENTIALS
            .failed(format!("AWS refuses their signature: {error}"), "set the station's clock");
    }
    let end = match until {
        Some(at) if at <= now => {
            return CREDENTIALS.failed(format!("they ended at {at}"), "renew them where they come from");
        }
        Some(at) => format!(", until {at} and then renewed by the SDK"),
        None => String::new(),
    };
    if all.iter().any(|it| answered(it)) {
        CREDENTIALS.ok(format!("they are found and AWS takes them{end}"))
    } else {
        CREDENTIALS.ok(format!("they are found{end}; nobody is there to take them"))
    }
}

fn whose(config: &Config, account: Result<String, String>, all: &[&Outcome]) -> Finding {
    let remedy = "use credentials of the account that aws.account says, or correct it";
    if let Some(error) = refusal(all, StopCause::Account) {
        return ACCOUNT.failed(error.to_string(), remedy);
    }
    match (account, &config.aws.account) {
        (Ok(found), Some(wanted)) if found != *wanted => ACCOUNT
            .failed(format!("the credentials belong to account {found}, aws.account is {wanted}"), remedy),
        (Ok(found), Some(_)) => ACCOUNT.ok(format!("it is {found}, as configured")),
        (Ok(found), None) => {
            ACCOUNT.ok(format!("it is {found}; with aws.account set the line would stop at any other"))
        }
        (Err(why), _) => ACCOUNT.skipped(format!("STS, which would know, says nothing: {why}")),
    }
}

fn endpoints(tried: &[(Probe, Vec<Outcome>)], aws: &Aws) -> Vec<Finding> {
    let services = [
        (Service::Iot, "iot", &aws.iot_endpoint),
        (Service::ManagedIntegrations, "iotmanagedintegrations", &aws.managed_integrations_endpoint),
    ];
    let judged = services.into_iter().map(|(service, name, url)| {
        let place = url.clone().unwrap_or_else(|| format!("AWS's own in {}", aws.region));
        let of = |it: &&(Probe, Vec<Outcome>)| it.0.service == service;
        let outcomes: Vec<&Outcome> = tried.iter().filter(of).flat_map(|it| &it.1).collect();
        endpoint(&outcomes, &place).about(name)
    });
    judged.collect()
}

fn endpoint(outcomes: &[&Outcome], place: &str) -> Finding {
    if outcomes.is_empty() {
        return ENDPOINT.skipped("the configuration makes no use of it");
    }
    if outcomes.iter().any(|it| answered(it)) {
        return ENDPOINT.ok(format!("{place} answers"));
    }
    let why = outcomes.iter().find_map(|it| it.as_ref()?.as_ref().err());
    let why = why.map_or_else(|| "no answer in time".to_owned(), ToString::to_string);
    let remedy = "check the network, DNS, the proxy (HTTPS_PROXY) and the endpoints of [aws]; behind a proxy that opens TLS \
         aws.ca_bundle has to name its root";
    ENDPOINT.failed(format!("{place} does not answer as AWS does: {why}"), remedy)
}

fn permissions(tried: &[(Probe, Vec<Outcome>)]) -> Vec<Finding> {
    let (with, without): (Vec<_>, Vec<_>) = tried.iter().partition(|it| !it.1.is_empty());
    let mut findings: Vec<Finding> = with
        .iter()
        .map(|(probe, outcomes)| permission(&probe.action, outcomes).about(&probe.action))
        .collect();
    if !without.is_empty() {
        let names: Vec<_> = without.iter().map(|(probe, _)| probe.action.as_str()).collect();
        let detail = format!(
            "not tried, since no harmless call would show them: {}; compare them with `linemint check-config --iam`",
            names.join(", ")
        );
        findings.push(PERMISSION.skipped(detail));
    }
    findings
}

fn permission(action: &str, outcomes: &[Outcome]) -> Finding {
    let error = |wanted: fn(FailureKind) -> bool| {
        let errors = outcomes.iter().filter_map(|it| it.as_ref()?.as_ref().err());
        errors.into_iter().find(|it| wanted(it.kind))
    };
    if let Some(denied) = error(|it| it == FailureKind::Stop(StopCause::Permission)) {
        let remedy = format!("allow {action} as `linemint check-config --iam` prints it");
        return PERMISSION.failed(denied.to_string(), remedy);
    }
    if let Some(throttled) = error(|it| it == FailureKind::Throttled) {
        let remedy = "others use up this account's quota now: run the doctor again, or lower aws.quota.share";
        return PERMISSION.warning(format!("AWS throttles: {throttled}"), remedy);
    }
    // What does not exist was looked for: both are leave to look.
    let allowed = |it: &Outcome| matches!(it, Some(Ok(_))) || kind(it) == Some(FailureKind::NotFound);
    if outcomes.iter().all(allowed) {
        return PERMISSION.ok("allowed");
    }
    let other = error(|it| it != FailureKind::NotFound);
    let why = match other {
        None => "no answer in time".to_owned(),
        // The words are with the check whose fault it is.
        Some(error) if error.kind != FailureKind::Refused => error.kind.to_string(),
        Some(error) => error.to_string(),
    };
    PERMISSION.skipped(format!("not known: {why}"))
}

fn region(config: &Config) -> Finding {
    let region = config.aws.region.as_str();
    if let Some((detail, remedy)) = no_managed_integrations(config) {
        return REGION.failed(detail, remedy);
    }
    REGION.ok(match wanted(config) {
        None => format!("{region}; no product wants a locker of its own or a managed thing"),
        Some(_) => format!("{region} offers managed integrations"),
    })
}

/// What the products want of managed integrations, and how they go without.
fn wanted(config: &Config) -> Option<(&'static str, &'static str)> {
    let wants = |of: fn(&ProductRules) -> bool| config.products.values().any(|it| of(&it.rules));
    let lockers = wants(|it| matches!(it.locker, LockerRule::Device { .. } | LockerRule::Batch { .. }));
    let managed = wants(|it| it.managed_thing.is_some());
    Some(match (lockers, managed) {
        (false, false) => return None,
        (true, false) => ("lockers", "locker = { scope = \"none\" }"),
        (false, true) => ("managed things", "take managed_thing out"),
        (true, true) => ("lockers and managed things", "locker = { scope = \"none\" } and no managed_thing"),
    })
}

/// What is wrong, and what to do, where the products want what AWS does not offer in the Region.
pub(crate) fn no_managed_integrations(config: &Config) -> Option<(String, String)> {
    let region = config.aws.region.as_str();
    let (what, without) = wanted(config)?;
    if LOCKER_REGIONS.contains(&region) {
        return None;
    }
    let detail = format!("{region} offers no managed integrations, and a product wants {what}");
    Some((detail, format!("use eu-west-1 or ca-central-1, or {without}")))
}

fn quotas(config: &Config) -> Finding {
    let documented = documented_quotas(&config.aws.region);
    let configured = &config.aws.quotas;
    let mut lines = Vec::new();
    let mut over = Vec::new();
    let mut say = |name: &str, here: Option<f64>, aws: f64| {
        let here_text = here.map_or_else(|| "unlimited".to_owned(), |it| format!("{it}"));
        lines.push((aws, format!("{name} {here_text} of {aws}")));
        if here.is_none_or(|it| it > aws * 1.001) {
            over.push(name.to_owned());
        }
    };
    for operation in operations(config) {
        let aws = documented.rates.get(&operation).copied().unwrap_or_else(|| operation.default_quota());
        say(operation.kebab(), configured.rates.get(&operation).copied(), aws);
    }
    let certificates = crate::cloud::DEVICE_CERTIFICATES;
    if let Some(aws) = documented.device_certificates {
        say(certificates, configured.device_certificates, aws);
    }
    // The tightest first: they say how fast the line can be.
    lines.sort_by(|a, b| a.0.total_cmp(&b.0));
    let texts: Vec<_> = lines.into_iter().map(|it| it.1).collect();
    let detail = format!(
        "configured for this station, of AWS's published default (AWS is not asked what it applies to this account), calls a second: {}",
        texts.join(", ")
    );
    if over.is_empty() {
        return QUOTAS.ok(detail);
    }
    let remedy = format!(
        "right only if AWS has raised them for this account ({}): compare with Service Quotas, and with what the other stations take",
        over.join(", ")
    );
    QUOTAS.warning(detail, remedy)
}

#[cfg(test)]
#[path = "aws_tests.rs"]
mod tests;
