//! `/openapi.json` describes the service as it is: what it describes is accepted, and replies have what it describes and
//! nothing else.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Map, Value, json};
use support::{Server, golden, post};

/// The description, with a strict reading: an object has all the properties that are described, and no others.
struct Description(Value);

impl Description {
    /// The schema that a reference names.
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            None => schema,
            Some(name) => {
                let name = name.strip_prefix("#").unwrap();
                self.resolve(self.0.pointer(name).expect(name))
            }
        }
    }

    /// The first difference of a value from a schema, with its place.
    fn differs(&self, schema: &Value, value: &Value, place: &str) -> Option<String> {
        let schema = self.resolve(schema);
        let wrong = || Some(format!("{place}: {value} is not {schema}"));
        if let Some(choices) = schema["oneOf"].as_array() {
            let fits = |choice| self.differs(choice, value, place).is_none();
            return if choices.iter().any(fits) {
                None
            } else {
                wrong()
            };
        }
        let is_constant = schema.get("const").is_none_or(|constant| constant == value);
        let choices = schema["enum"].as_array();
        if !is_constant || choices.is_some_and(|choices| !choices.contains(value)) {
            return wrong();
        }
        match value {
            _ if !has_type(&schema["type"], value) => wrong(),
            Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
                self.differs(&schema["items"], item, &format!("{place}[{index}]"))
            }),
            Value::Object(object) => self.object_differs(schema, object, place),
            _ => None,
        }
    }

    fn object_differs(
        &self,
        schema: &Value,
        object: &Map<String, Value>,
        place: &str,
    ) -> Option<String> {
        let described = schema["properties"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        // A description without properties is of any object.
        if described.is_empty() {
            return None;
        }
        let missing = described.keys().find(|key| !object.contains_key(*key));
        let missing = missing.map(|key| format!("{place}: no {key}"));
        missing.or_else(|| {
            object
                .iter()
                .find_map(|(key, value)| match described.get(key) {
                    None => Some(format!("{place}: {key} is not described")),
                    Some(schema) => self.differs(schema, value, &format!("{place}.{key}")),
                })
        })
    }

    #[track_caller]
    fn check_reply(&self, method: &str, route: &str, reply: &support::Reply) {
        let responses = &self.0["paths"][route][method]["responses"];
        let response = match reply.status {
            200 => &responses["200"],
            _ => self.resolve(&responses["default"]),
        };
        let schema = &response["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{method} {route}: {}", reply.status);
        let differs = self.differs(schema, &reply.json(), "reply");
        assert_eq!(differs, None, "{method} {route} {}", reply.status);
    }
}

fn has_type(expected: &Value, value: &Value) -> bool {
    let fits = |kind: &Value| match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        other => panic!("{other}"),
    };
    match expected {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(fits),
        kind => fits(kind),
    }
}

/// A body for each route that scores, with every key that is described.
fn bodies() -> Vec<(&'static str, Value)> {
    let image = json!({"type": "image", "image": "vqa0.png"});
    let asked = json!([image, {"type": "text", "text": "what color?"}]);
    let messages =
        json!([{"role": "user", "content": asked}, {"role": "assistant", "content": "Red."}]);
    let texts = json!([{"role": "user", "content": "<image>what?"}, {"role": "assistant", "content": "Red."}]);
    let row = json!({"id": 7, "prompt": "what?", "system": "Be brief.", "history": [["a", "b"]], "images": ["vqa0.png"], "responses": ["r", "s"]});
    let bad = json!({"prompt": "<image>", "responses": ["r"]});
    let classify = json!({"model": "m", "messages": messages, "use_activation": false});
    let mut second = json!({"messages": texts, "images": ["vqa0.png"]});
    second["id"] = json!(null);
    vec![
        ("/v1/rewards", row.clone()),
        (
            "/v1/rewards",
            json!({"requests": [row, second, bad], "model": "m"}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "m", "messages": texts, "images": ["vqa0.png"], "stream": false, "n": 1}),
        ),
        (
            "/get_reward",
            json!({"query": ["q?Yes."], "prompts": ["q?"], "labels": [null]}),
        ),
        (
            "/remote_rm",
            json!({"prompt": "q?", "response": "Yes.", "label": null}),
        ),
        ("/classify", classify.clone()),
        ("/v1/classify", classify),
    ]
}

/// Every key that is described occurs in a body of the route.
#[track_caller]
fn check_bodies(description: &Description) {
    for (route, item) in description.0["paths"].as_object().unwrap() {
        let Some(schema) = item["post"]["requestBody"]["content"]["application/json"].get("schema")
        else {
            continue;
        };
        let single = [schema.clone()];
        let choices = schema["oneOf"]
            .as_array()
            .map_or(&single[..], Vec::as_slice);
        for choice in choices {
            for key in description.resolve(choice)["properties"]
                .as_object()
                .unwrap()
                .keys()
            {
                let sent = bodies().into_iter().filter(|(other, _)| other == route);
                let is_sent = sent.into_iter().any(|(_, body)| {
                    let rows = body["requests"].as_array().cloned().unwrap_or_default();
                    body.get(key).is_some() || rows.iter().any(|row| row.get(key).is_some())
                });
                assert!(
                    is_sent,
                    "{route}: {key} is described and not sent by this test"
                );
            }
        }
    }
}

#[test]
fn the_description_is_of_what_is_served() {
    let root = golden("images");
    let server = Server::start(&["--image-root", root.to_str().unwrap()]);
    let description = Description(server.get("/openapi.json").json());
    check_bodies(&description);
    for (route, mut body) in bodies() {
        let reply = server.post(route, &body);
        assert_eq!(reply.status, 200, "{route}: {reply:?}");
        description.check_reply("post", route, &reply);
        body["no_such_key"] = json!(1);
        description.check_reply("post", route, &server.post(route, &body));
        description.check_reply("post", route, &server.send(&post(route, "{")));
    }
    for (route, item) in description.0["paths"].as_object().unwrap() {
        if item.get("get").is_some() && route != "/metrics" {
            description.check_reply("get", route, &server.get(route));
        }
    }
}
