//! What a unit tells of a key of its own, and whether its product wants that.

use super::from_csr::of_device;
use crate::device::request::CertificateRequest;
use crate::device::rules::{KeyOrigin, ProductRules, Register};
use crate::error::Chain;
use crate::pki::{DevicePublicKey, csr};

/// As much of a unit as its key is judged by.
pub(super) struct Told<'a> {
    /// PEM.
    pub(super) csr: Option<&'a str>,
}

/// The device's own key, and its request where AWS is to get it.
type Keys = (Option<DevicePublicKey>, Option<CertificateRequest>);

impl Told<'_> {
    /// What is taken of it; an error is a sentence for the fixture.
    pub(super) fn keys(&self, rules: &ProductRules) -> Result<Keys, String> {
        let pem = match (rules.certificate.key, self.csr) {
            (KeyOrigin::Station, None) => return Ok((None, None)),
            (KeyOrigin::Station, Some(_)) => {
                return Err("this product's keys are made by the station: no CSR is wanted".to_owned());
            }
            (KeyOrigin::Device, None) => {
                return Err("this product makes its own key: a CSR is missing".to_owned());
            }
            (KeyOrigin::Device, Some(pem)) => pem,
        };
        let by_aws = rules.certificate.register == Register::Aws;
        let read = match by_aws {
            true => csr::read_csr_for_aws(pem),
            false => csr::read_csr(pem),
        };
        let (key, der) = read.map_err(|error| Chain(&error).to_string())?;
        let request = by_aws.then(|| of_device(&key.spki_der, der));
        Ok((Some(key), request))
    }
}
