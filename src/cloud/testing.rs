//! What tests of several parts say of AWS.

use super::{CloudError, FailureKind, Operation};

/// A call that went wrong so.
pub(crate) fn failure(operation: Operation, kind: FailureKind) -> CloudError {
    CloudError {
        code: Some("SomeException".to_owned()),
        ..CloudError::new(operation, kind, "as AWS says it")
    }
}
