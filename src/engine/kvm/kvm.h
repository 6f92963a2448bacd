/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine that leaves the work to the host's kernel: /dev/kvm.
 *
 * Tour 5.100: The host's kernel does it
 */
#ifndef ENGINE_KVM_KVM_H
#define ENGINE_KVM_KVM_H

#include "engine/engine.h"

extern const struct engine_ops kvm_engine;

#endif
