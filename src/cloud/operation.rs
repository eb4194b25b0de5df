//! The AWS operations by name, with the quotas that AWS documents for them.

use std::fmt;
use std::str::FromStr;

/// One of the two AWS services that a device's identity lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// AWS IoT Core's control plane (`iot`).
    Iot,
    /// AWS IoT managed integrations (`iotmanagedintegrations`).
    ManagedIntegrations,
}

impl Service {
    /// What its actions begin with in an IAM policy.
    #[must_use]
    pub const fn iam_prefix(self) -> &'static str {
        match self {
            Self::Iot => "iot",
            Self::ManagedIntegrations => "iotmanagedintegrations",
        }
    }
}

macro_rules! operations {
    ($($variant:ident, $service:ident, $kebab:literal, $aws:literal, $quota:literal;)*) => {
        /// An AWS operation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Operation {
            $(#[doc = concat!("`", $aws, "`, ", $quota, " calls a second by default.")] $variant,)*
        }

        impl Operation {
            /// Every operation, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The key in the configuration, as the AWS command line spells it.
            #[must_use]
            pub const fn kebab(self) -> &'static str {
                match self { $(Self::$variant => $kebab,)* }
            }

            /// The name in AWS's documentation.
            #[must_use]
            pub const fn aws_name(self) -> &'static str {
                match self { $(Self::$variant => $aws,)* }
            }

            /// The service that offers it.
            #[must_use]
            pub const fn service(self) -> Service {
                match self { $(Self::$variant => Service::$service,)* }
            }

            /// AWS's default quota, calls a second for an account and Region
            /// (AWS General Reference, read 2026-11).
            #[must_use]
            pub const fn default_quota(self) -> f64 {
                match self { $(Self::$variant => $quota,)* }
            }
        }
    };
}

operations! {
    CreateCredentialLocker, ManagedIntegrations, "create-credential-locker", "CreateCredentialLocker", 10.0;
    GetCredentialLocker, ManagedIntegrations, "get-credential-locker", "GetCredentialLocker", 10.0;
    ListCredentialLockers, ManagedIntegrations, "list-credential-lockers", "ListCredentialLockers", 10.0;
    DeleteCredentialLocker, ManagedIntegrations, "delete-credential-locker", "DeleteCredentialLocker", 10.0;
    CreateManagedThing, ManagedIntegrations, "create-managed-thing", "CreateManagedThing", 10.0;
    GetManagedThing, ManagedIntegrations, "get-managed-thing", "GetManagedThing", 10.0;
    DeleteManagedThing, ManagedIntegrations, "delete-managed-thing", "DeleteManagedThing", 10.0;
    CreatePolicy, Iot, "create-policy", "CreatePolicy", 10.0;
    GetPolicy, Iot, "get-policy", "GetPolicy", 10.0;
    ListPolicies, Iot, "list-policies", "ListPolicies", 10.0;
    CreatePolicyVersion, Iot, "create-policy-version", "CreatePolicyVersion", 10.0;
    DeletePolicy, Iot, "delete-policy", "DeletePolicy", 10.0;
    ListTargetsForPolicy, Iot, "list-targets-for-policy", "ListTargetsForPolicy", 10.0;
    RegisterCaCertificate, Iot, "register-ca-certificate", "RegisterCACertificate", 10.0;
    GetRegistrationCode, Iot, "get-registration-code", "GetRegistrationCode", 10.0;
    DescribeCaCertificate, Iot, "describe-ca-certificate", "DescribeCACertificate", 10.0;
    UpdateCaCertificate, Iot, "update-ca-certificate", "UpdateCACertificate", 10.0;
    RegisterCertificate, Iot, "register-certificate", "RegisterCertificate", 10.0;
    RegisterCertificateWithoutCa, Iot, "register-certificate-without-ca", "RegisterCertificateWithoutCA", 10.0;
    CreateCertificateFromCsr, Iot, "create-certificate-from-csr", "CreateCertificateFromCsr", 15.0;
    CreateKeysAndCertificate, Iot, "create-keys-and-certificate", "CreateKeysAndCertificate", 10.0;
    DescribeCertificate, Iot, "describe-certificate", "DescribeCertificate", 10.0;
    UpdateCertificate, Iot, "update-certificate", "UpdateCertificate", 10.0;
    DeleteCertificate, Iot, "delete-certificate", "DeleteCertificate", 10.0;
    ListCertificates, Iot, "list-certificates", "ListCertificates", 10.0;
    ListCertificatesByCa, Iot, "list-certificates-by-ca", "ListCertificatesByCA", 10.0;
    CreateThing, Iot, "create-thing", "CreateThing", 100.0;
    DescribeThing, Iot, "describe-thing", "DescribeThing", 350.0;
    DeleteThing, Iot, "delete-thing", "DeleteThing", 100.0;
    ListThings, Iot, "list-things", "ListThings", 10.0;
    AttachPolicy, Iot, "attach-policy", "AttachPolicy", 15.0;
    DetachPolicy, Iot, "detach-policy", "DetachPolicy", 15.0;
    ListAttachedPolicies, Iot, "list-attached-policies", "ListAttachedPolicies", 15.0;
    AttachThingPrincipal, Iot, "attach-thing-principal", "AttachThingPrincipal", 100.0;
    DetachThingPrincipal, Iot, "detach-thing-principal", "DetachThingPrincipal", 100.0;
    ListThingPrincipals, Iot, "list-thing-principals", "ListThingPrincipals", 20.0;
    ListPrincipalThings, Iot, "list-principal-things", "ListPrincipalThings", 10.0;
    DescribeEndpoint, Iot, "describe-endpoint", "DescribeEndpoint", 10.0;
    RegisterThing, Iot, "register-thing", "RegisterThing", 10.0;
}

/// The quota that every call which registers a device certificate shares:
/// key `device-certificates`, 15 a second by default.
pub const DEVICE_CERTIFICATES: &str = "device-certificates";

/// What a limit is called that all calls of an account share. AWS documents none; it is learned.
pub const ACCOUNT: &str = "account";

/// Default of [`DEVICE_CERTIFICATES`], certificates a second.
pub const DEVICE_CERTIFICATES_QUOTA: f64 = 15.0;

impl Operation {
    /// Whether the call also counts against [`DEVICE_CERTIFICATES`].
    #[must_use]
    pub const fn registers_certificate(self) -> bool {
        matches!(
            self,
            Self::RegisterCertificate
                | Self::RegisterCertificateWithoutCa
                | Self::CreateCertificateFromCsr
                | Self::CreateKeysAndCertificate
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.aws_name())
    }
}

/// The name is none of AWS's operations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no AWS operation is called {0:?}")]
pub struct UnknownOperation(pub String);

impl FromStr for Operation {
    type Err = UnknownOperation;

    /// Parses the kebab-case key.
    fn from_str(name: &str) -> Result<Self, UnknownOperation> {
        Self::ALL
            .iter()
            .copied()
            .find(|it| it.kebab() == name)
            .ok_or_else(|| UnknownOperation(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_found_by_its_key() {
        for operation in Operation::ALL {
            assert_eq!(operation.kebab().parse(), Ok(*operation));
            assert!(operation.default_quota() > 0.0);
        }
        assert!("create-everything".parse::<Operation>().is_err());
    }
}
