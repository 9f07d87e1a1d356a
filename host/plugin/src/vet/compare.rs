//! Where two types of two WIT documents part, in words.
//!
//! Component types are structural: names of records do not matter, names and order of their fields
//! do. Resources are compared by name.

use wit_parser::{Function, Handle, Resolve, Type, TypeDefKind};

/// How deep types are followed; WIT types cannot recurse, so this is only a guard.
const DEEPEST: u32 = 32;

/// A function as the contract writes it, with the names of its types.
pub(super) fn signature(resolve: &Resolve, function: &Function) -> String {
    let params: Vec<String> = function
        .params
        .iter()
        .map(|param| format!("{}: {}", param.name, short(resolve, &param.ty)))
        .collect();
    let result = function.result.map(|ty| format!(" -> {}", short(resolve, &ty))).unwrap_or_default();
    format!("{}: func({}){result}", function.name, params.join(", "))
}

/// Where a found function differs from the wanted one, if it does.
pub(super) fn functions(
    wanted_in: &Resolve,
    wanted: &Function,
    found_in: &Resolve,
    found: &Function,
) -> Option<String> {
    if wanted.params.len() != found.params.len() {
        let (wanted, found) = (signature(wanted_in, wanted), signature(found_in, found));
        return Some(format!("`{wanted}` is wanted, it has `{found}`"));
    }
    for (w, f) in wanted.params.iter().zip(&found.params) {
        if w.name != f.name {
            return Some(format!("the parameter `{}` is called `{}`", w.name, f.name));
        }
        if let Some(difference) = types(wanted_in, &w.ty, found_in, &f.ty, 0) {
            return Some(format!("in the parameter `{}`, {difference}", w.name));
        }
    }
    let difference = optional(wanted_in, wanted.result, found_in, found.result, 0)?;
    Some(format!("in the result, {difference}"))
}

fn optional(
    wi: &Resolve,
    wanted: Option<Type>,
    fi: &Resolve,
    found: Option<Type>,
    depth: u32,
) -> Option<String> {
    match (wanted, found) {
        (None, None) => None,
        (Some(wanted), Some(found)) => types(wi, &wanted, fi, &found, depth),
        (Some(wanted), None) => Some(format!("`{}` is wanted, it has nothing", short(wi, &wanted))),
        (None, Some(found)) => Some(format!("nothing is wanted, it has `{}`", short(fi, &found))),
    }
}

fn types(wi: &Resolve, wanted: &Type, fi: &Resolve, found: &Type, depth: u32) -> Option<String> {
    use TypeDefKind as K;
    let other = || Some(format!("`{}` is wanted, it has `{}`", short(wi, wanted), short(fi, found)));
    if depth > DEEPEST {
        return None;
    }
    let depth = depth + 1;
    let (w, f) = match (kind(wi, wanted), kind(fi, found)) {
        (Err(w), Err(f)) => return if w == f { None } else { other() },
        (Ok(w), Ok(f)) => (w, f),
        _ => return other(),
    };
    match (w, f) {
        (K::Record(w), K::Record(f)) => {
            let names = |fields: &[wit_parser::Field]| {
                fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>()
            };
            if let Some(difference) = lists("field", &names(&w.fields), &names(&f.fields)) {
                return Some(format!("the record `{}` {difference}", short(wi, wanted)));
            }
            w.fields.iter().zip(&f.fields).find_map(|(w, f)| {
                let difference = types(wi, &w.ty, fi, &f.ty, depth)?;
                Some(format!("in the field `{}`, {difference}", w.name))
            })
        }
        (K::Variant(w), K::Variant(f)) => {
            let names =
                |cases: &[wit_parser::Case]| cases.iter().map(|case| case.name.clone()).collect::<Vec<_>>();
            if let Some(difference) = lists("case", &names(&w.cases), &names(&f.cases)) {
                return Some(format!("the variant `{}` {difference}", short(wi, wanted)));
            }
            w.cases.iter().zip(&f.cases).find_map(|(w, f)| {
                let difference = optional(wi, w.ty, fi, f.ty, depth)?;
                Some(format!("in the case `{}`, {difference}", w.name))
            })
        }
        (K::Enum(w), K::Enum(f)) => {
            let names = |cases: &[wit_parser::EnumCase]| {
                cases.iter().map(|case| case.name.clone()).collect::<Vec<_>>()
            };
            let difference = lists("case", &names(&w.cases), &names(&f.cases))?;
            Some(format!("the enum `{}` {difference}", short(wi, wanted)))
        }
        (K::Flags(w), K::Flags(f)) => {
            let names =
                |flags: &[wit_parser::Flag]| flags.iter().map(|flag| flag.name.clone()).collect::<Vec<_>>();
            let difference = lists("flag", &names(&w.flags), &names(&f.flags))?;
            Some(format!("the flags `{}` {difference}", short(wi, wanted)))
        }
        (K::Tuple(w), K::Tuple(f)) if w.types.len() == f.types.len() => {
            w.types.iter().zip(&f.types).find_map(|(w, f)| types(wi, w, fi, f, depth))
        }
        (K::Option(w), K::Option(f)) | (K::List(w), K::List(f)) => types(wi, w, fi, f, depth),
        (K::Result(w), K::Result(f)) => optional(wi, w.ok, fi, f.ok, depth)
            .map(|difference| format!("in the ok value, {difference}"))
            .or_else(|| Some(format!("in the error, {}", optional(wi, w.err, fi, f.err, depth)?))),
        (K::Handle(Handle::Own(w)), K::Handle(Handle::Own(f)))
        | (K::Handle(Handle::Borrow(w)), K::Handle(Handle::Borrow(f))) => {
            if name(wi, *w) == name(fi, *f) {
                None
            } else {
                other()
            }
        }
        (K::Resource, K::Resource) => None,
        _ => other(),
    }
}

fn lists(what: &str, wanted: &[String], found: &[String]) -> Option<String> {
    let missing = wanted.iter().find(|name| !found.contains(name));
    let added = found.iter().find(|name| !wanted.contains(name));
    match (missing, added) {
        (Some(name), _) => Some(format!("lacks the {what} `{name}`")),
        (None, Some(name)) => Some(format!("has a {what} `{name}` too many")),
        (None, None) if wanted != found => Some(format!("has its {what}s in another order")),
        (None, None) => None,
    }
}

/// The type behind its aliases: a definition, or a primitive.
fn kind<'a>(resolve: &'a Resolve, ty: &Type) -> Result<&'a TypeDefKind, Type> {
    let mut ty = *ty;
    loop {
        match ty {
            Type::Id(id) => match &resolve.types[id].kind {
                TypeDefKind::Type(inner) => ty = *inner,
                kind => return Ok(kind),
            },
            primitive => return Err(primitive),
        }
    }
}

fn name(resolve: &Resolve, id: wit_parser::TypeId) -> Option<String> {
    let mut id = id;
    while let TypeDefKind::Type(Type::Id(inner)) = &resolve.types[id].kind {
        id = *inner;
    }
    resolve.types[id].name.clone()
}

/// A type as an author writes it.
fn short(resolve: &Resolve, ty: &Type) -> String {
    let Type::Id(id) = ty else {
        return match ty {
            Type::Bool => "bool",
            Type::U8 => "u8",
            Type::U16 => "u16",
            Type::U32 => "u32",
            Type::U64 => "u64",
            Type::S8 => "s8",
            Type::S16 => "s16",
            Type::S32 => "s32",
            Type::S64 => "s64",
            Type::F32 => "f32",
            Type::F64 => "f64",
            Type::Char => "char",
            Type::String => "string",
            Type::ErrorContext => "error-context",
            Type::Id(_) => "",
        }
        .into();
    };
    let def = &resolve.types[*id];
    if let Some(name) = &def.name {
        return name.clone();
    }
    let opt = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".into(), |ty| short(resolve, ty));
    match &def.kind {
        TypeDefKind::Option(ty) => format!("option<{}>", short(resolve, ty)),
        TypeDefKind::List(ty) => format!("list<{}>", short(resolve, ty)),
        TypeDefKind::Tuple(tuple) => {
            let types: Vec<String> = tuple.types.iter().map(|ty| short(resolve, ty)).collect();
            format!("tuple<{}>", types.join(", "))
        }
        TypeDefKind::Result(result) => match (&result.ok, &result.err) {
            (None, None) => "result".into(),
            (ok, None) => format!("result<{}>", opt(ok)),
            (ok, err) => format!("result<{}, {}>", opt(ok), opt(err)),
        },
        TypeDefKind::Handle(Handle::Own(id)) => name(resolve, *id).unwrap_or_default(),
        TypeDefKind::Handle(Handle::Borrow(id)) => {
            format!("borrow<{}>", name(resolve, *id).unwrap_or_default())
        }
        TypeDefKind::Type(ty) => short(resolve, ty),
        other => other.as_str().into(),
    }
}
