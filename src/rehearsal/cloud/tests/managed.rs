//! Managed things, as strictly as the model says.

use super::*;

fn thing(serial: &str, token: &str) -> Value {
    json!({
        "Role": "DEVICE",
        "AuthenticationMaterial": format!("SN:{serial};UPC:036000291452"),
        "AuthenticationMaterialType": "WIFI_SETUP_QR_BAR_CODE",
        "SerialNumber": serial,
        "ClientToken": token,
    })
}

#[tokio::test]
async fn a_token_makes_one_and_a_serial_number_is_ones_once() {
    let rig = Rig::easy().await;
    let create = |body: Value| {
        let rig = &rig;
        async move { rig.call("POST", "/managed-things", &body).await }
    };
    let made = create(thing("SN0000000001", "t1")).await.ok().body;
    let again = create(thing("SN0000000001", "t1")).await.ok().body;
    assert_eq!(made["Id"], again["Id"]);
    assert_eq!(create(thing("SN0000000002", "t1")).await.error(), (409, "ConflictException"));
    assert_eq!(create(thing("SN0000000001", "t2")).await.error(), (409, "ConflictException"));
    let mut nowhere = thing("SN0000000003", "t3");
    nowhere["CredentialLockerId"] = json!("0123");
    assert_eq!(create(nowhere).await.error(), (404, "ResourceNotFoundException"));
    let path = format!("/managed-things/{}", made["Id"].as_str().unwrap());
    let read = rig.call("GET", &path, &Value::Null).await.ok().body;
    assert_eq!((&read["Id"], &read["Arn"], &read["Role"]), (&made["Id"], &made["Arn"], &json!("DEVICE")));
    assert_eq!(read.get("CredentialLockerId"), None);
    rig.call("DELETE", &path, &Value::Null).await.ok();
    assert_eq!(rig.call("GET", &path, &Value::Null).await.error(), (404, "ResourceNotFoundException"));
    let long = format!("/managed-things/{}", "a".repeat(65));
    assert_eq!(rig.call("GET", &long, &Value::Null).await.error(), (400, "ValidationException"));
    assert_eq!(rig.call("DELETE", &path, &Value::Null).await.error(), (404, "ResourceNotFoundException"));
    assert!(rig.cloud.managed_things().is_empty());
}

#[tokio::test]
async fn what_the_model_does_not_allow_is_refused() {
    let rig = Rig::easy().await;
    for (member, value) in [
        ("Role", json!("HUB")),
        ("Role", Value::Null),
        ("AuthenticationMaterialType", json!("QR")),
        ("AuthenticationMaterial", json!("SN:SN0000000001;UPC:036000291453")),
        ("AuthenticationMaterial", json!("SN:SN0000000002;UPC:036000291452")),
        ("AuthenticationMaterial", json!("")),
        ("SerialNumber", json!("SN/1")),
        ("ClientToken", json!("a b")),
        ("CredentialLockerId", json!("not-one")),
    ] {
        let mut body = thing("SN0000000001", "t1");
        body[member] = value;
        let refused = rig.call("POST", "/managed-things", &body).await;
        assert_eq!(refused.error(), (400, "ValidationException"), "{body}");
    }
}
