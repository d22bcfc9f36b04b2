//! Every service, message, field and enum value of etcd's API, by name, number and type, against a table that was made
//! from etcd and not from our files: a slip of the pen in `proto/` shows here and not in a client.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, ServiceDescriptorProto,
};

const TABLE: &str = include_str!("wire_contract.txt");

/// Numbers that etcd will not come to; fields from here on are kvorum's own.
const OWN_NUMBERS_MIN: i32 = 1001;

/// Every field that etcd does not have.
const OWN_FIELDS: [&str; 2] =
    ["WatchCreateRequest: 1001 with_state bool", "WatchResponse: 1001 state_complete bool"];

#[test]
fn descriptors_match_the_table() {
    let wanted = table_lines();
    let found = descriptor_lines();
    let missing: Vec<_> = wanted.difference(&found).collect();
    let extra: Vec<_> = found.difference(&wanted).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "in the table, not in proto/: {missing:#?}\nin proto/, not in the table: {extra:#?}"
    );
    let count = |kind: &str| wanted.iter().filter(|line| line.contains(kind)).count();
    assert_eq!((count(" service "), count(" message "), count(" enum ")), (49, 117, 10));
}

#[test]
fn own_fields_are_few_and_far_from_etcds_numbers() {
    let mut found = Vec::new();
    for file in files() {
        for message in &file.message_type {
            let own = message.field.iter().filter(|field| field.number() >= OWN_NUMBERS_MIN);
            found.extend(own.map(|field| {
                format!("{}: {}", message.name(), field_text(file.package(), message, field))
            }));
        }
    }
    assert_eq!(found, OWN_FIELDS);
}

#[test]
fn reflection_shows_etcd_packages_only() {
    let packages: BTreeSet<String> =
        files().iter().map(|file| file.package().to_string()).collect();
    let expected = ["authpb", "etcdserverpb", "mvccpb", "v3electionpb", "v3lockpb"];
    assert_eq!(packages, expected.map(String::from).into());
}

/// The table's lines, each with its package in front.
fn table_lines() -> BTreeSet<String> {
    let mut package = "";
    let mut lines = BTreeSet::new();
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("package ") {
            Some(name) => package = name,
            None => assert!(lines.insert(format!("{package} {line}")), "twice: {line}"),
        }
    }
    lines
}

fn files() -> Vec<FileDescriptorProto> {
    FileDescriptorSet::decode(kvorum_proto::FILE_DESCRIPTOR_SET).expect("built from proto/").file
}

fn descriptor_lines() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in files() {
        let package = file.package();
        for service in &file.service {
            service_lines(package, service, &mut lines);
        }
        for message in &file.message_type {
            message_lines(package, message, &mut lines);
        }
        for declared in &file.enum_type {
            lines.insert(enum_line(package, "", declared));
        }
    }
    lines
}

fn service_lines(package: &str, service: &ServiceDescriptorProto, lines: &mut BTreeSet<String>) {
    let stream = |is: bool| if is { "stream " } else { "" };
    for method in &service.method {
        lines.insert(format!(
            "{package} service {} {} {}{} -> {}{}",
            service.name(),
            method.name(),
            stream(method.client_streaming()),
            type_name(package, method.input_type()),
            stream(method.server_streaming()),
            type_name(package, method.output_type()),
        ));
    }
}

fn message_lines(package: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    assert!(message.nested_type.is_empty(), "{}: etcd nests no messages", message.name());
    let etcds = message.field.iter().filter(|field| field.number() < OWN_NUMBERS_MIN);
    let fields: Vec<String> = etcds.map(|field| field_text(package, message, field)).collect();
    let colon = if fields.is_empty() { "" } else { ": " };
    lines.insert(format!("{package} message {}{colon}{}", message.name(), fields.join(", ")));
    for declared in &message.enum_type {
        lines.insert(enum_line(package, &format!("{}.", message.name()), declared));
    }
}

fn field_text(package: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let repeated = if field.label() == Label::Repeated { "+" } else { "" };
    let kind = match field.r#type() {
        Type::Message | Type::Enum => type_name(package, field.type_name()),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    let group = field.oneof_index.map_or(String::new(), |index| {
        let index = usize::try_from(index).expect("an index");
        format!("|{}", message.oneof_decl[index].name())
    });
    format!("{} {} {repeated}{kind}{group}", field.number(), field.name())
}

fn enum_line(package: &str, parent: &str, declared: &EnumDescriptorProto) -> String {
    let values: Vec<String> =
        declared.value.iter().map(|value| format!("{}={}", value.name(), value.number())).collect();
    format!("{package} enum {parent}{}: {}", declared.name(), values.join(" "))
}

/// A type as the table writes it: short in its own package, with the package elsewhere.
fn type_name(package: &str, full: &str) -> String {
    let full = full.trim_start_matches('.');
    match full.strip_prefix(&format!("{package}.")) {
        Some(own) => own.rsplit('.').next().unwrap_or(own).to_string(),
        None => full.to_string(),
    }
}
