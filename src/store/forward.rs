//! For stores that stand in front of another: which requests they hand on as they are.
//!
//! A wrapper that forgets one of the methods that have a default would answer for itself where it should ask: so each
//! says, in one line, what it does not touch.

/// Methods of [`ObjectStore`](crate::store::ObjectStore) that ask the store in the field `$inner` and do nothing else.
///
/// ```ignore
/// impl ObjectStore for Wrapper {
///     keepstone::store::forward!(inner: get, get_range, list, size, location);
///     // and what it does itself
/// }
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! forwarded {
    ($inner:tt: $($method:ident),+ $(,)?) => { $($crate::store::forward!(@$method $inner);)+ };
    (@put $inner:tt) => {
        fn put(&self, key: &$crate::store::Key, bytes: &[u8]) -> ::std::result::Result<$crate::store::Put, $crate::store::Error> {
            self.$inner.put(key, bytes)
        }
    };
    (@begin $inner:tt) => {
        fn begin(&self) -> ::std::result::Result<Box<dyn $crate::store::Upload>, $crate::store::Error> {
            self.$inner.begin()
        }
    };
    (@replace $inner:tt) => {
        fn replace(&self, key: &$crate::store::Key, bytes: &[u8]) -> ::std::result::Result<(), $crate::store::Error> {
            self.$inner.replace(key, bytes)
        }
    };
    (@get $inner:tt) => {
        fn get(&self, key: &$crate::store::Key, limit_bytes: u64) -> ::std::result::Result<Vec<u8>, $crate::store::Error> {
            self.$inner.get(key, limit_bytes)
        }
    };
    (@get_range $inner:tt) => {
        fn get_range(
            &self,
            key: &$crate::store::Key,
            offset: u64,
            length: usize,
        ) -> ::std::result::Result<Vec<u8>, $crate::store::Error> {
            self.$inner.get_range(key, offset, length)
        }
    };
    (@stream $inner:tt) => {
        fn stream(
            &self,
            key: &$crate::store::Key,
            offset: u64,
            length: u64,
            each: &mut dyn FnMut(&[u8]) -> bool,
        ) -> ::std::result::Result<(), $crate::store::Error> {
            self.$inner.stream(key, offset, length, each)
        }
    };
    (@size $inner:tt) => {
        fn size(&self, key: &$crate::store::Key) -> ::std::result::Result<u64, $crate::store::Error> {
            self.$inner.size(key)
        }
    };
    (@list $inner:tt) => {
        fn list(
            &self,
            area: $crate::store::Area,
            each: &mut dyn FnMut($crate::store::Listed),
        ) -> ::std::result::Result<(), $crate::store::Error> {
            self.$inner.list(area, each)
        }
    };
    (@list_part $inner:tt) => {
        fn list_part(
            &self,
            area: $crate::store::Area,
            from: Option<&str>,
            each: &mut dyn FnMut($crate::store::Listed),
        ) -> ::std::result::Result<Option<String>, $crate::store::Error> {
            self.$inner.list_part(area, from, each)
        }
    };
    (@list_together $inner:tt) => {
        fn list_together(
            &self,
            areas: &[$crate::store::Area],
            each: &mut dyn FnMut($crate::store::Area, $crate::store::Listed),
        ) -> ::std::result::Result<(), $crate::store::Error> {
            self.$inner.list_together(areas, each)
        }
    };
    (@delete $inner:tt) => {
        fn delete(&self, key: &$crate::store::Key) -> ::std::result::Result<(), $crate::store::Error> {
            self.$inner.delete(key)
        }
    };
    (@delete_each $inner:tt) => {
        fn delete_each(
            &self,
            keys: &[$crate::store::Key],
        ) -> Vec<::std::result::Result<(), $crate::store::Error>> {
            self.$inner.delete_each(keys)
        }
    };
    (@lock_on $inner:tt) => {
        fn lock_on(
            &self,
            key: &$crate::store::Key,
        ) -> ::std::result::Result<Option<$crate::store::Locked>, $crate::store::Error> {
            self.$inner.lock_on(key)
        }
    };
    (@extend_lock $inner:tt) => {
        fn extend_lock(
            &self,
            key: &$crate::store::Key,
        ) -> ::std::result::Result<$crate::store::Extended, $crate::store::Error> {
            self.$inner.extend_lock(key)
        }
    };
    (@is_remote $inner:tt) => {
        fn is_remote(&self) -> bool {
            self.$inner.is_remote()
        }
    };
    (@flush $inner:tt) => {
        fn flush(&self, area: $crate::store::Area) -> ::std::result::Result<(), $crate::store::Error> {
            self.$inner.flush(area)
        }
    };
    (@location $inner:tt) => {
        fn location(&self) -> String {
            self.$inner.location()
        }
    };
    (@free_bytes $inner:tt) => {
        fn free_bytes(&self) -> Option<u64> {
            self.$inner.free_bytes()
        }
    };
    (@keep_reserve $inner:tt) => {
        fn keep_reserve(&self) {
            self.$inner.keep_reserve();
        }
    };
    (@give_up_reserve $inner:tt) => {
        fn give_up_reserve(&self) -> ::std::result::Result<bool, $crate::store::Error> {
            self.$inner.give_up_reserve()
        }
    };
    (@sweep_uploads $inner:tt) => {
        fn sweep_uploads(&self, older_than: ::std::time::Duration) -> ::std::result::Result<u64, $crate::store::Error> {
            self.$inner.sweep_uploads(older_than)
        }
    };
    (@puts_are_atomic $inner:tt) => {
        fn puts_are_atomic(&self) -> bool {
            self.$inner.puts_are_atomic()
        }
    };
    (@puts_at_once $inner:tt) => {
        fn puts_at_once(&self) -> usize {
            self.$inner.puts_at_once()
        }
    };
    (@introduce $inner:tt) => {
        fn introduce(&self, repository: $crate::base::RepositoryId, puts_are_atomic: bool) {
            self.$inner.introduce(repository, puts_are_atomic);
        }
    };
    (@traffic $inner:tt) => {
        fn traffic(&self) -> $crate::store::Traffic {
            self.$inner.traffic()
        }
    };
    (@peculiarities $inner:tt) => {
        fn peculiarities(&self) -> Vec<$crate::store::probe::Check> {
            self.$inner.peculiarities()
        }
    };
}

pub use forwarded as forward;
