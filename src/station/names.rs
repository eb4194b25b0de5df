//! Whether the CA may issue for the names that the products give. A CA can be held to names, by itself or by one above it,
//! which would show only when the first device comes.

use std::collections::HashSet;

use jiff::Timestamp;

use super::setup::StationCa;
use crate::config::{Config, Product, serials};
use crate::device::rules::{Filling, Register};
use crate::device::serial::{Mac, SerialNumber};
use crate::pki::{IssueError, LeafKey, LeafRequest};

/// Products that are tried at most: each is a signature, and a token may take a second for one.
const MAX_PRODUCTS: usize = 20;

/// What the CA does not allow of names as the products make them, a sentence for each product. A pattern may allow more serial
/// numbers than there are: so it is a warning and keeps no station from its work.
pub(crate) fn refused(config: &Config, ca: &StationCa, now: Timestamp) -> Vec<String> {
    if !ca.constrained {
        return Vec::new();
    }
    let issued = |it: &&Product| it.rules.certificate.register != Register::Aws;
    let products = config.products.values().filter(issued).take(MAX_PRODUCTS);
    products
        .filter_map(|product| {
            let request = LeafRequest { common_name: example(product)?, days: 1, key: LeafKey::Station };
            // Whatever else is wrong with it is the example's own matter.
            match ca.issuer.issue(&request, now) {
                Err(error @ IssueError::Name { .. }) => {
                    Some(format!("{error}, which is like the names of {}", product.rules.product))
                }
                _ => None,
            }
        })
        .collect()
}

/// The common name of a device of the product that does not exist.
fn example(product: &Product) -> Option<String> {
    let serial = serials::matching(&product.pattern_text, 1, 0, &mut HashSet::new())?.pop()?;
    let (serial, mac) = (SerialNumber::parse(&serial).ok()?, Mac::parse("020000000001").ok()?);
    let rules = &product.rules;
    let (station, name) = (rules.station.as_str(), rules.product.as_str());
    let filling = Filling { serial: &serial, mac: Some(&mac), batch: Some("B1"), station, product: name };
    Some(rules.certificate.common_name.fill(&filling))
}
