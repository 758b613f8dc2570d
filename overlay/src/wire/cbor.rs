//! CBOR as we write it: structs are arrays, trailing fields are ignored.

use serde::{Deserialize, Serialize};

/// Most of what is encoded is shorter than this.
const SHORT: usize = 64;

/// The bytes of `value`.
pub(crate) fn to_vec<T: Serialize>(value: &T) -> Vec<u8> {
    to_vec_with_capacity(SHORT, value)
}

/// The bytes of `value`, in a buffer of this capacity.
pub(crate) fn to_vec_with_capacity<T: Serialize>(capacity: usize, value: &T) -> Vec<u8> {
    cbor4ii::serde::to_vec(Vec::with_capacity(capacity), value).expect("our own types encode")
}

/// Not the CBOR that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed CBOR")]
pub(crate) struct Malformed;

/// Reads one value; bytes after it are ignored.
pub(crate) fn from_slice<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    cbor4ii::serde::from_slice(bytes).map_err(|_| Malformed)
}

/// A struct that travels as an array of its fields in order. Elements after the last known
/// field are read and ignored, so later versions can add some. Those after `or_none` may be absent:
/// trailing ones that are `None` are not written, and what is not there is `None`.
macro_rules! cbor_array {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$fmeta:meta])* $fvis:vis $field:ident : $type:ty),* ;
        or_none $($(#[$ometa:meta])* $ovis:vis $option:ident : $inner:ty),* $(,)?
    }) => {
        $(#[$meta])*
        $vis struct $name {
            $($(#[$fmeta])* $fvis $field: $type,)*
            $($(#[$ometa])* $ovis $option: Option<$inner>),*
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple as _;
                let fields: &[&str] = &[$(stringify!($field)),*];
                let told: &[bool] = &[$(self.$option.is_some()),*];
                let told = told.iter().rposition(|it| *it).map_or(0, |last| last + 1);
                let mut tuple = serializer.serialize_tuple(fields.len() + told)?;
                $(tuple.serialize_element(&self.$field)?;)*
                let mut left = told;
                $(if left > 0 {
                    tuple.serialize_element(&self.$option)?;
                    left -= 1;
                })*
                debug_assert_eq!(left, 0);
                tuple.end()
            }
        }

        crate::wire::cbor::cbor_array!(@read $name {
            $($field => seq.next_element()?
                .ok_or_else(|| serde::de::Error::missing_field(stringify!($field)))?,)*
            $($option => seq.next_element()?.flatten(),)*
        } seq);
    };
    (@read $name:ident { $($field:ident => $read:expr,)* } $seq:ident) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("an array of the fields of ", stringify!($name)))
                    }

                    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut $seq: A) -> Result<$name, A::Error> {
                        $(let $field = $read;)*
                        while $seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                        Ok($name { $($field),* })
                    }
                }

                deserializer.deserialize_seq(Visitor)
            }
        }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$fmeta:meta])* $fvis:vis $field:ident : $type:ty),* $(,)?
    }) => {
        $(#[$meta])*
        $vis struct $name { $($(#[$fmeta])* $fvis $field: $type),* }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple as _;
                let fields: &[&str] = &[$(stringify!($field)),*];
                let mut tuple = serializer.serialize_tuple(fields.len())?;
                $(tuple.serialize_element(&self.$field)?;)*
                tuple.end()
            }
        }

        crate::wire::cbor::cbor_array!(@read $name {
            $($field => seq.next_element()?
                .ok_or_else(|| serde::de::Error::missing_field(stringify!($field)))?,)*
        } seq);
    };
}
pub(crate) use cbor_array;
