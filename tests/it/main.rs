//! Integration tests: one binary, since each one links the AWS SDK.

mod dependencies;
