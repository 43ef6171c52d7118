//! Who a container says it is.
