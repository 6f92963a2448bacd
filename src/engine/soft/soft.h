/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine that needs nothing but this processor: it translates the guest's code.
 *
 * Tour 6.10: An engine of our own
 */
#ifndef ENGINE_SOFT_SOFT_H
#define ENGINE_SOFT_SOFT_H

#include "engine/engine.h"

extern const struct engine_ops soft_engine;

#endif
