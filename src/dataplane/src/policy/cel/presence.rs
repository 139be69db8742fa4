//! `has(x.y)` where absent entries read as `""`.

use cel::common::ast::{Expr, IdedExpr, LiteralValue, SelectExpr, operators};

use super::values::CALLER_FIELDS;

/// `has(metadata.x)` would always be true, as an absent entry reads as `""`: it becomes `"x" in metadata`.
pub(super) fn present_to_in(expr: &mut IdedExpr, bound: &[String]) {
    let Expr::Select(select) = &expr.expr else { return };
    let map = match &select.operand.expr {
        Expr::Ident(name) if ["metadata", "segment", "caller"].contains(&name.as_str()) => name,
        _ => return,
    };
    if !select.test || bound.contains(map) {
        return;
    }
    if map == "caller" && CALLER_FIELDS.contains(&select.field.as_str()) {
        // Both are there for who has shown a certificate with a name, and for nobody else.
        let id = Expr::Select(SelectExpr { operand: select.operand.clone(), field: "id".to_owned(), test: false });
        let empty = Expr::Literal(LiteralValue::String(String::new().into()));
        let args = [id, empty].map(|part| IdedExpr { id: expr.id, expr: part }).to_vec();
        let func_name = operators::NOT_EQUALS.to_owned();
        expr.expr = Expr::Call(cel::common::ast::CallExpr { func_name, target: None, args });
        return;
    }
    let name = LiteralValue::String(select.field.clone().into());
    let name = IdedExpr { id: expr.id, expr: Expr::Literal(name) };
    let map = (*select.operand).clone();
    expr.expr = Expr::Call(cel::common::ast::CallExpr {
        func_name: operators::IN.to_owned(),
        target: None,
        args: vec![name, map],
    });
}
