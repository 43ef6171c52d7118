//! Annotations, devices, hooks and file systems that no pod of the kubelet's has.
