//! How long a file and a function may be, and what a `lib.rs` is for.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, Lit, Meta};

use crate::Finding;
use crate::source::Source;

/// Lines of a file, those of its tests aside.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// All rules of this module.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !source.is_test {
        findings.extend(file_is_short(source));
    }
    let mut functions = Functions { path: &source.path, findings: Vec::new() };
    functions.visit_file(&source.syntax);
    findings.extend(functions.findings);
    if source.path.ends_with("src/lib.rs") {
        findings.extend(lib_says_its_job(source));
        findings.extend(lib_holds_no_logic(source));
    }
    findings
}

fn file_is_short(source: &Source) -> Option<Finding> {
    let count = source.line_count_without_tests();
    let what = format!(
        "{count} lines without tests, {FILE_LINES_MAX} is the most: split it by topic, one noun a file"
    );
    (count > FILE_LINES_MAX).then(|| Finding::new(&source.path, 0, what))
}

struct Functions<'a> {
    path: &'a str,
    findings: Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.fn_token.span.start().line;
        let count = block.span().end().line + 1 - first;
        if count > FUNCTION_LINES_MAX {
            let what = format!(
                "fn {} has {count} lines, {FUNCTION_LINES_MAX} is the most: keep the branching, \
                 move straight-line work into named helpers",
                signature.ident
            );
            self.findings.push(Finding::new(self.path, first, what));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// The first sentence names the job; the second says what the crate must never do.
fn lib_says_its_job(source: &Source) -> Option<Finding> {
    let docs: Vec<String> = source.syntax.attrs.iter().filter_map(doc_line).collect();
    let docs = docs.join(" ");
    let second = docs.split(". ").map(str::trim).filter(|s| !s.is_empty()).nth(1);
    let says = second.is_some_and(|sentence| sentence.contains("must never"));
    let what = "lib.rs begins with two sentences: the crate's one job, then what it must never do \
                (with the words \"must never\")";
    (!says).then(|| Finding::new(&source.path, 1, what))
}

fn doc_line(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    let (true, Expr::Lit(literal)) = (pair.path.is_ident("doc"), &pair.value) else { return None };
    let Lit::Str(text) = &literal.lit else { return None };
    Some(text.value().trim().to_owned())
}

fn lib_holds_no_logic(source: &Source) -> Vec<Finding> {
    let logic =
        source.syntax.items.iter().filter(|item| matches!(item, Item::Fn(_) | Item::Impl(_)));
    let what = "lib.rs holds docs, modules, re-exports and constants: move this into a module";
    logic.map(|item| Finding::new(&source.path, item.span().start().line, what)).collect()
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::source::sample;

    const GOOD_LIB: &str =
        "//! Keeps a log,\n//! in order. It must never skip.\nmod log;\npub use log::Log;\n";

    fn count(path: &str, text: &str) -> usize {
        check(&sample(path, text)).len()
    }

    #[test]
    fn a_file_over_600_lines_is_found_and_its_tests_do_not_count() {
        let lines = |count| "// x\n".repeat(count);
        assert_eq!(count("server/src/a.rs", &lines(600)), 0);
        assert_eq!(count("server/src/a.rs", &lines(601)), 1);
        assert_eq!(count("server/tests/a.rs", &lines(601)), 0);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(590), lines(400));
        assert_eq!(count("server/src/a.rs", &tested), 0);
    }

    #[test]
    fn a_function_over_70_lines_is_found_wherever_it_stands() {
        let function = |lines: usize| format!("fn a() {{\n{}}}\n", "    b();\n".repeat(lines - 2));
        assert_eq!(count("server/src/a.rs", &function(70)), 0);
        assert_eq!(count("server/src/a.rs", &function(71)), 1);
        assert_eq!(count("server/src/a.rs", &format!("impl A {{\n{}}}\n", function(71))), 1);
        assert_eq!(count("server/src/a.rs", &format!("trait A {{\n{}}}\n", function(71))), 1);
        assert_eq!(count("server/tests/a.rs", &function(71)), 1);
    }

    #[test]
    fn a_lib_without_its_two_sentences_is_found() {
        assert_eq!(count("crates/wal/src/lib.rs", GOOD_LIB), 0);
        assert_eq!(count("crates/wal/src/lib.rs", "//! Keeps a log.\nmod log;\n"), 1);
        assert_eq!(count("crates/wal/src/lib.rs", "//! Must never skip. Keeps a log.\n"), 1);
    }

    #[test]
    fn a_lib_with_logic_is_found() {
        assert_eq!(count("crates/wal/src/lib.rs", &format!("{GOOD_LIB}fn a() {{}}\n")), 1);
        assert_eq!(count("crates/wal/src/lib.rs", &format!("{GOOD_LIB}impl A {{}}\n")), 1);
    }
}
