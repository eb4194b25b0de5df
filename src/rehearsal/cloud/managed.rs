//! Managed things: a serial number is one's once, a client token makes a repeat harmless.

use serde::Deserialize;
use serde_json::{Value, json};

use super::account::{Account, Done, ManagedThing, Moment, Outcome, seconds};
use super::check::{is_text, is_word};
use super::refusal::Refusal;
use super::request::Request;
use crate::device::article::ArticleNumber;
use crate::pki::Fingerprint;

const TYPES: [&str; 6] = [
    "CUSTOM_PROTOCOL_QR_BAR_CODE",
    "WIFI_SETUP_QR_BAR_CODE",
    "ZWAVE_QR_BAR_CODE",
    "ZIGBEE_QR_BAR_CODE",
    "DISCOVERED_DEVICE",
    "PRE_ONBOARDED_CLOUD",
];

/// `CreateManagedThing`, as far as stations use it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CreateManagedThing {
    role: Option<String>,
    credential_locker_id: Option<String>,
    authentication_material: Option<String>,
    authentication_material_type: Option<String>,
    #[serde(rename = "WiFiSimpleSetupConfiguration")]
    setup: Option<Value>,
    pub(crate) serial_number: Option<String>,
    client_token: Option<String>,
}

impl CreateManagedThing {
    /// Reads and checks the members.
    pub(crate) fn parse(request: &Request) -> Result<Self, Refusal> {
        let it: Self = request.members()?;
        let required = |name: &str| request.invalid(format!("{name} is required"));
        if !it.role.as_deref().is_some_and(|it| matches!(it, "CONTROLLER" | "DEVICE")) {
            return Err(request.invalid("Role has to be CONTROLLER or DEVICE"));
        }
        let kind = it.authentication_material_type.as_deref();
        if !kind.is_some_and(|it| TYPES.contains(&it)) {
            return Err(request.invalid(format!("AuthenticationMaterialType has to be one of {TYPES:?}")));
        }
        let material = it.authentication_material.as_deref();
        let material = material.ok_or_else(|| required("AuthenticationMaterial"))?;
        let allowed = |it: u8| it.is_ascii_alphanumeric() || b"!#$%&()*+-;<=>?@^_`{|}~/: ,\\\"".contains(&it);
        if !is_text(material, 1, 512, allowed) {
            return Err(request.invalid("AuthenticationMaterial has to be 1 to 512 of its characters"));
        }
        if kind == Some("WIFI_SETUP_QR_BAR_CODE") && !is_wifi_setup(material, it.serial_number.as_deref()) {
            return Err(request.invalid("AuthenticationMaterial has to be SN:…;UPC:… of this device"));
        }
        if !it
            .credential_locker_id
            .as_deref()
            .is_none_or(|it| is_text(it, 0, 64, |it| it.is_ascii_alphanumeric()))
        {
            return Err(request.invalid("CredentialLockerId has to be up to 64 letters and digits"));
        }
        let serial_ok = |it: &str| is_text(it, 1, 128, |it| is_word(it) || b"- ".contains(&it));
        if !it.serial_number.as_deref().is_none_or(serial_ok) {
            return Err(request.invalid("SerialNumber has to be 1 to 128 of [A-Za-z0-9-_ ]"));
        }
        let token_ok = |it: &str| is_text(it, 1, 64, |it| is_word(it) || b"=-".contains(&it));
        if !it.client_token.as_deref().is_none_or(token_ok) {
            return Err(request.invalid("ClientToken has to be 1 to 64 of [a-zA-Z0-9=_-]"));
        }
        Ok(it)
    }

    fn parameters(&self) -> Fingerprint {
        let all = json!([
            self.role,
            self.credential_locker_id,
            self.authentication_material,
            self.authentication_material_type,
            self.setup,
            self.serial_number
        ]);
        Fingerprint::of(all.to_string().as_bytes())
    }
}

/// `SN:` of 12 to 50 letters and digits, the device's own, and a number in trade whose check digit is right.
fn is_wifi_setup(material: &str, serial: Option<&str>) -> bool {
    let Some((number, article)) = material.strip_prefix("SN:").and_then(|it| it.split_once(';')) else {
        return false;
    };
    let article = article.strip_prefix("UPC:").or_else(|| article.strip_prefix("EAN:"));
    serial == Some(number)
        && is_text(number, 12, 50, |it| it.is_ascii_alphanumeric())
        && article.is_some_and(|it| ArticleNumber::parse(it).is_ok())
}

impl Account {
    /// Same token and same parameters: the same answer, and nothing more.
    pub(crate) fn create_managed_thing(&mut self, command: CreateManagedThing, at: Moment<'_>) -> Outcome {
        let parameters = command.parameters();
        if let Some((id, before)) = command.client_token.as_ref().and_then(|it| self.managed_tokens.get(it)) {
            if *before != parameters {
                return Err(conflict("ClientToken was used with other parameters"));
            }
            let body = self.managed_body(id, at);
            return Ok(Done { status: 201, body: Some(body), effect: false });
        }
        if let Some(locker) =
            command.credential_locker_id.as_ref().filter(|it| !self.lockers.contains_key(*it))
        {
            return Err(Refusal::not_found(format!("There is no credential locker {locker}")));
        }
        let material = command.authentication_material.unwrap_or_default();
        if self.managed_things.values().any(|it| it.material == material) {
            return Err(conflict("There is a managed thing of this serial number and UPC or EAN"));
        }
        let number = self.next();
        let id = self.digits(&format!("managed thing {number}"))[..32].to_owned();
        if let Some(token) = command.client_token {
            self.managed_tokens.insert(token, (id.clone(), parameters));
        }
        let thing = ManagedThing {
            material,
            locker: command.credential_locker_id,
            role: command.role.unwrap_or_default(),
        };
        self.managed_things.insert(id.clone(), thing);
        let body = self.managed_body(&id, at);
        Ok(Done { status: 201, body: Some(body), effect: true })
    }

    pub(crate) fn get_managed_thing(&self, id: &str, at: Moment<'_>) -> Outcome {
        let it = self.managed_things.get(id).ok_or_else(|| no_managed_thing(id))?;
        let mut body = self.managed_body(id, at);
        body["Role"] = json!(it.role);
        if let Some(locker) = &it.locker {
            body["CredentialLockerId"] = json!(locker);
        }
        Ok(Done::read(body))
    }

    pub(crate) fn delete_managed_thing(&mut self, id: &str) -> Outcome {
        let gone = self.managed_things.remove(id);
        gone.map(|_| Done::empty(true)).ok_or_else(|| no_managed_thing(id))
    }

    fn managed_body(&self, id: &str, at: Moment<'_>) -> Value {
        let arn = format!("arn:aws:iotmanagedintegrations:{}:{}:managed-thing/{id}", at.region, self.id);
        json!({ "Id": id, "Arn": arn, "CreatedAt": seconds(at.now.wall) })
    }
}

fn no_managed_thing(id: &str) -> Refusal {
    Refusal::not_found(format!("There is no managed thing {id}"))
}

fn conflict(message: &str) -> Refusal {
    Refusal::new("ConflictException", 409, message)
}
