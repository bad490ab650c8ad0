//! OTLP as protobuf: what `ExportTraceServiceRequest` and the messages in it need of the encoding,
//! and no more. The numbers are those of the fields in
//! `opentelemetry/proto/{collector/trace,trace,resource,common}/v1/*.proto`.

use super::{Attribute, KIND, Link, Span, Status, Trace, Value};

/// A message while it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Of wire type 0.
    fn number(&mut self, field: u64, value: u64) -> &mut Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    /// Of wire type 1.
    fn fixed64(&mut self, field: u64, value: u64) -> &mut Self {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Of wire type 2.
    fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn message(&mut self, field: u64, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0)
    }

    fn attributes<'a>(
        &mut self,
        field: u64,
        attributes: impl IntoIterator<Item = &'a Attribute>,
    ) -> &mut Self {
        for (key, value) in attributes {
            self.message(field, |pair| {
                pair.bytes(1, key.as_bytes()).message(2, |any| any.value(value));
            });
        }
        self
    }

    /// An `AnyValue`. A member of a `oneof` is written even where it is the default.
    fn value(&mut self, value: &Value) {
        match value {
            Value::Text(text) => self.bytes(1, text.as_bytes()),
            Value::Flag(flag) => self.number(2, u64::from(*flag)),
            Value::Number(number) => self.number(3, *number as u64),
            Value::Texts(texts) => self.message(5, |array| {
                for text in texts {
                    array.message(1, |any| {
                        any.bytes(1, text.as_bytes());
                    });
                }
            }),
        };
    }
}

impl Trace {
    /// As `application/x-protobuf`.
    pub fn protobuf(&self) -> Vec<u8> {
        let mut request = Message::default();
        request.message(1, |resource_spans| {
            resource_spans.message(1, |resource| {
                for (key, value) in &self.context.resource {
                    resource.message(1, |pair| {
                        pair.bytes(1, key.as_bytes()).message(2, |any| {
                            any.bytes(1, value.as_bytes());
                        });
                    });
                }
            });
            resource_spans.message(2, |scope_spans| {
                scope_spans.message(1, |scope| {
                    scope.bytes(1, b"dbuild").bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
                });
                for span in &self.spans {
                    scope_spans.message(2, |message| self.span(message, span));
                }
            });
        });
        request.0
    }

    fn span(&self, message: &mut Message, span: &Span) {
        message.bytes(1, &self.context.trace_id).bytes(2, &span.id);
        if !self.context.state.is_empty() {
            message.bytes(3, self.context.state.as_bytes());
        }
        if let Some(parent) = &span.parent {
            message.bytes(4, parent);
        }
        message.bytes(5, span.name.as_bytes()).number(6, KIND);
        message.fixed64(7, span.began).fixed64(8, span.ended);
        message.attributes(9, &span.attributes);
        for Link { span, attributes } in &span.links {
            message.message(13, |link| {
                link.bytes(1, &self.context.trace_id).bytes(2, span).attributes(4, attributes);
            });
        }
        message.message(15, |status| {
            if let Status::Error(text) = &span.status {
                status.bytes(2, text.as_bytes());
            }
            // As every field, it is left out where it is 0.
            if span.status != Status::Unset {
                status.number(3, span.status.code());
            }
        });
    }
}
