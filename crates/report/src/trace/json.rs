//! OTLP as JSON: names in camel case, ids in hex, 64-bit numbers as texts, enumerations as numbers.

use serde_json::{Value as Json, json};

use super::{Attribute, KIND, Span, Status, Trace, Value};

impl Trace {
    /// As `application/json`.
    pub fn json(&self) -> Vec<u8> {
        let resource: Vec<Json> = self
            .context
            .resource
            .iter()
            .map(|(key, value)| json!({ "key": key, "value": { "stringValue": value } }))
            .collect();
        let spans: Vec<Json> = self.spans.iter().map(|span| self.span_as_json(span)).collect();
        let scope = json!({ "name": "dbuild", "version": env!("CARGO_PKG_VERSION") });
        let request = json!({
            "resourceSpans": [{
                "resource": { "attributes": resource },
                "scopeSpans": [{ "scope": scope, "spans": spans }],
            }],
        });
        request.to_string().into_bytes()
    }

    fn span_as_json(&self, span: &Span) -> Json {
        let trace = hex(&self.context.trace_id);
        let links: Vec<Json> = span
            .links
            .iter()
            .map(|link| {
                json!({
                    "traceId": trace,
                    "spanId": hex(&link.span),
                    "attributes": attributes(&link.attributes),
                })
            })
            .collect();
        let status = match &span.status {
            Status::Error(text) => json!({ "code": span.status.code(), "message": text }),
            Status::Unset | Status::Ok => json!({ "code": span.status.code() }),
        };
        let mut json = json!({
            "traceId": trace,
            "spanId": hex(&span.id),
            "name": span.name,
            "kind": KIND,
            "startTimeUnixNano": span.began.to_string(),
            "endTimeUnixNano": span.ended.to_string(),
            "attributes": attributes(&span.attributes),
            "links": links,
            "status": status,
        });
        if let Some(parent) = &span.parent {
            json["parentSpanId"] = Json::String(hex(parent));
        }
        if !self.context.state.is_empty() {
            json["traceState"] = Json::String(self.context.state.clone());
        }
        json
    }
}

fn attributes(attributes: &[Attribute]) -> Vec<Json> {
    let value = |value: &Value| match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Flag(flag) => json!({ "boolValue": flag }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::Texts(texts) => {
            let texts: Vec<Json> = texts.iter().map(|text| json!({ "stringValue": text })).collect();
            json!({ "arrayValue": { "values": texts } })
        }
    };
    attributes.iter().map(|(key, of)| json!({ "key": key, "value": value(of) })).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
