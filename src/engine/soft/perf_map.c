/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What perf is told of translated code (--soft-perf): a file with a line for each block, which
 * names it by the guest's address. perf looks for it where just-in-time compilers leave theirs,
 * by the process that the samples are of, and long after that is gone: so nobody takes it away.
 *
 * unit.c reports each new block. Nothing is said of blocks that are dropped: their place stays
 * empty until the whole cache is, and from then on an address may have several names.
 *
 * Tour 8.210: Names for perf
 */
#include "engine/soft/translate.h"
#include "host/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* Linux, tools/perf/Documentation/jit-interface.txt: the name, and what is in a line. */
#define PERF_MAP "/tmp/perf-%d.map"

/*
 * Anybody may put something of that name there before us, and who has our number could have left
 * one. What can be taken away is; what is made instead is new, and no link leads elsewhere.
 */
static int make_file(const char *name)
{
	unlink(name);
	return open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
}

int perf_map_open(struct soft *soft, struct problem *why)
{
	char name[sizeof(PERF_MAP) + 10];
	int file, err;

	if (!soft->options.soft_perf)
		return 0;
	snprintf(name, sizeof(name), PERF_MAP, (int)getpid());
	file = make_file(name);
	if (file < 0)
		return problem(why, errno, "cannot make the map for perf, %s: %s", name,
			       strerror(errno));
	soft->perf_map = fdopen(file, "w");
	/* The buffer is made now: once locked in, libc may not ask how large it had better be. */
	if (soft->perf_map && !setvbuf(soft->perf_map, NULL, _IOFBF, 0))
		return 0;
	err = errno;
	if (!soft->perf_map)
		close(file);
	return problem(why, err, "cannot write the map for perf, %s: %s", name, strerror(err));
}

void perf_map_close(struct soft *soft)
{
	bool incomplete;

	if (!soft->perf_map)
		return;
	incomplete = ferror(soft->perf_map);
	if (fclose(soft->perf_map) || incomplete)
		log_line("the map for perf is not complete");
	soft->perf_map = NULL;
}

/* "START SIZE NAME", in one call: then no other vCPU's line gets in between. */
void perf_map_add(struct vcpu *vcpu, u64 linear, u32 mode, const u8 *code, u32 size)
{
	static const char *const code_sizes[] = {
		[MODE_CODE_64] = "",
		[MODE_CODE_32] = "32",
		[MODE_CODE_16] = "16",
	};

	if (!vcpu->soft->perf_map)
		return;
	vectors_save(vcpu);
	fprintf(vcpu->soft->perf_map, "%" PRIx64 " %" PRIx32 " guest:%c%s:%" PRIx64 "\n", (u64)code,
		size, "ku"[(mode & MODE_VIEW) == VIEW_USER], code_sizes[mode & MODE_CODE], linear);
}
