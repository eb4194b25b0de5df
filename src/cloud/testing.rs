//! What tests of several parts say of AWS.

use super::{CloudError, FailureKind, Operation};

/// A call that went wrong so.
pub(crate) fn failure(operation: Operation, kind: FailureKind) -> CloudError {
    CloudError {
        operation,
        kind,
        code: Some("SomeException".to_owned()),
        status: None,
        message: "as AWS says it".to_owned(),
        request_id: None,
        retry_after: None,
        resource_id: None,
        resource_arn: None,
    }
}
