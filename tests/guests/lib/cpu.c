/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which CPU this is, where that matters to a test. It hardly ever should.
 */
#include "lib/cpu.h"

#define CPUID_VENDOR_AMD 0x68747541 /* "Auth", the first four letters of it */

#define SIGNATURE_ATHLON_64 0x00060fb1u /* family, model and stepping of one of 2007 */

/* No hypervisor hands its name on, but no Athlon 64 ever had the extended features of leaf 7. */
bool cpu_is_tcg(void)
{
	return cpuid(0, 0).ebx == CPUID_VENDOR_AMD && cpuid(1, 0).eax == SIGNATURE_ATHLON_64 &&
	       cpuid(0, 0).eax >= 7;
}

bool cpu_deviates(const char *what)
{
	bool deviates = cpu_is_tcg();

	if (deviates)
		print("left out on qemu's emulated CPU: %s\n", what);
	return deviates;
}
