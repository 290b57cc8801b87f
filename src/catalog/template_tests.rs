//! Rules of templates, by example.

use super::*;
use serde_json::json;

fn templates() -> Templates {
    let mut t = Templates::new(json!({
        "name": "golem", "replicas": 3, "on": true, "off": false, "nothing": null,
        "pools": [{"name": "a"}, {"name": "b"}], "zones": ["x", "y"], "map": {"k": "v"},
    }));
    t.add_function("image", |n| match n {
        "known" => Ok("example.io/known:v1"),
        other => Err(format!("no image {other}")),
    });
    t
}

fn render(value: Value) -> Result<Vec<Value>> {
    templates().documents("test.yaml", vec![value])
}

#[test]
fn leaves_keep_their_type_and_text_stays_text() {
    let out = render(json!({
        "n": "{{ replicas }}", "s": "{{ name }}-{{ replicas }}", "m": "{{ map }}", "plain": "a: b",
        "null": "{{ nothing }}", "{{ name }}-key": true, "f": "{{ image('known') }}", "x": 1,
    }));
    assert_eq!(
        out.unwrap(),
        [
            json!({"n": 3, "s": "golem-3", "m": {"k": "v"}, "plain": "a: b", "null": null, "golem-key": true,
            "f": "example.io/known:v1", "x": 1})
        ]
    );
}

#[test]
fn a_value_cannot_break_the_document() {
    let t = Templates::new(json!({"evil": "x\nkind: Secret"}));
    assert_eq!(
        t.value("t", json!({"a": "{{ evil }}"})).unwrap().unwrap(),
        json!({"a": "x\nkind: Secret"})
    );
}

#[test]
fn conditions_drop_items_keys_and_documents() {
    let out = render(json!({
        "keep": {"$if": "on", "a": 1}, "drop": {"$if": "off", "a": 1},
        "list": ["first", {"$if": "off", "$value": "second"}, {"$if": "replicas > 1", "$value": "third"}],
    }));
    assert_eq!(
        out.unwrap(),
        [json!({"keep": {"a": 1}, "list": ["first", "third"]})]
    );
    assert!(
        render(json!({"$if": "off", "kind": "X"}))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn loops_nest_and_count() {
    let out = render(json!({
        "$each": [{"in": "pools", "as": "p"}, {"in": "zones", "as": "z"}],
        "$if": "p_index + z_index < 2",
        "n": "{{ p.name }}{{ z }}{{ z_index }}",
    }));
    assert_eq!(
        out.unwrap(),
        [
            json!({"n": "ax0"}),
            json!({"n": "ay1"}),
            json!({"n": "bx0"})
        ]
    );
    let out = render(json!([{"$each": {"in": "zones", "as": "z"}, "$value": "{{ z }}"}]));
    assert_eq!(out.unwrap(), [json!(["x", "y"])]);
}

#[test]
fn mistakes_name_the_place() {
    for (value, part) in [
        (
            json!({"a": [{"b": "{{ missing }}"}]}),
            "test.yaml at a[0].b",
        ),
        (json!({"a": "x {{ missing }}"}), "test.yaml at a"),
        (
            json!({"a": "{{ map.missing }}"}),
            "`map.missing` is undefined",
        ),
        (json!({"a": "{{ image('other') }}"}), "no image other"),
        (
            json!({"a": {"$each": {"in": "zones", "as": "z"}}}),
            "only for items",
        ),
        (json!([{"$each": {"in": "zones"}}]), "$each wants"),
        (json!({"$value": 1, "b": 2}), "stands alone"),
        (json!({"$if": "missing", "b": 2}), "`missing` is undefined"),
    ] {
        let error = render(value).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn merges_as_rfc_7386() {
    let mut base = json!({"a": {"b": 1, "c": 2}, "d": [1], "e": 3});
    merge(
        &mut base,
        &json!({"a": {"b": null, "x": {"y": null, "z": 1}}, "d": [2], "e": {"f": 1}}),
    );
    assert_eq!(
        base,
        json!({"a": {"c": 2, "x": {"z": 1}}, "d": [2], "e": {"f": 1}})
    );
}
