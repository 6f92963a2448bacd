/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bzImage, the kernel as distributions ship it (LOAD-3): a real-mode part that
 * we have no use for but its header, and a protected-mode part that unpacks the
 * real kernel once it runs.
 *
 * linux: Documentation/arch/x86/boot.rst. Fields that came with a later version
 * of the protocol than the image's own are not there, whatever the bytes say.
 *
 * Tour 2.230: bzImage: the kernel as it is shipped
 */
#include "boot/internal.h"
#include "host/log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define HEADER_START 0x1f1 /* of struct setup_header, in the file and in boot_params */
#define HEADER_MAGIC 0x202
#define HEADER_LIMIT 0x290 /* where boot_params has something else */
#define HEADER_LENGTH                                                                              \
	0x201 /* the byte that says where the header ends, counted from HEADER_MAGIC */

#define SECTOR		    512
#define SETUP_SECTS_DEFAULT 4	     /* what 0 means, "for backwards compatibility" */
#define PARAGRAPH	    16	     /* the unit of syssize */
#define FIXED_ADDRESS	    0x100000 /* of every bzImage that was not moved */
#define ENTRY_64	    0x200    /* after the start of the protected-mode part */

/* Versions of the protocol, for what they brought. */
#define PROTOCOL_CMD_LINE     0x0202
#define PROTOCOL_INITRD_MAX   0x0203
#define PROTOCOL_SYSSIZE      0x0204
#define PROTOCOL_RELOCATABLE  0x0205
#define PROTOCOL_CMDLINE_SIZE 0x0206
#define PROTOCOL_PADDED	      0x0208 /* images are a whole number of paragraphs from here on */
#define PROTOCOL_PREFERENCE   0x020a /* pref_address, init_size */
#define PROTOCOL_XLOADFLAGS   0x020c

struct bzimage {
	struct setup_header header;
	size_t header_len;
	u64 offset, size; /* of the protected-mode part, in the file */
	u64 address;	  /* where that goes */
	u64 runtime,
		runtime_size; /* what the unpacked kernel needs before it knows of memory maps */
	u64 entry;
	bool is_64;
};

static bool speaks(const struct bzimage *image, unsigned version)
{
	return image->header.version >= version;
}

bool bzimage_recognise(const struct kernel_head *head)
{
	return head->len >= HEADER_MAGIC + 4 && !memcmp(head->bytes + HEADER_MAGIC, "HdrS", 4);
}

/*
 * Where a header of each version ends at the least: a shorter one does not have the fields it
 * promises.
 */
static unsigned header_end(unsigned version)
{
	static const struct {
		unsigned version, end;
	} ends[] = {
		{0x020f, 0x26c}, {0x020b, 0x268}, {0x020a, 0x264}, {0x0209, 0x258}, {0x0208, 0x250},
		{0x0207, 0x248}, {0x0206, 0x23c}, {0x0205, 0x236}, {0x0203, 0x230},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(ends); i++)
		if (version >= ends[i].version)
			return ends[i].end;
	return 0x22c;
}

static int read_header(const struct load *load, struct bzimage *image)
{
	const struct file *kernel = load->boot->kernel;
	const struct kernel_head *head = load->head;
	u64 end = HEADER_MAGIC + head->bytes[HEADER_LENGTH];

	if (head->len < end)
		return refuse(kernel, load->problem, ENOEXEC,
			      "is truncated: its header goes on to byte 0x%" PRIx64
			      ", and the file ends at 0x%" PRIx64,
			      end, head->len);
	image->header_len = MIN(MIN(end, HEADER_LIMIT) - HEADER_START, sizeof(image->header));
	memcpy(&image->header, head->bytes + HEADER_START, image->header_len);
	if (!speaks(image, PROTOCOL_CMD_LINE))
		return refuse(kernel, load->problem, ENOEXEC,
			      "speaks boot protocol %u.%02u: 2.02 is the oldest that we know",
			      image->header.version >> 8, image->header.version & 0xff);
	if (end < header_end(image->header.version))
		return refuse(kernel, load->problem, ENOEXEC,
			      "is damaged: its header ends at byte 0x%" PRIx64
			      ", but boot protocol %u.%02u goes on to 0x%x",
			      end, image->header.version >> 8, image->header.version & 0xff,
			      header_end(image->header.version));
	if (!(image->header.loadflags & LOADED_HIGH))
		return refuse(kernel, load->problem, ENOEXEC,
			      "is a zImage, to be loaded below 1 MiB: make it a bzImage");
	return 0;
}

/*
 * The protected-mode part, and whether it is all there. A file may be longer: a
 * signature follows. Until 2.08 the last paragraph may be partly there, as that is
 * how they were built.
 */
static int measure(const struct load *load, struct bzimage *image)
{
	const struct file *kernel = load->boot->kernel;
	unsigned sectors =
		image->header.setup_sects ? image->header.setup_sects : SETUP_SECTS_DEFAULT;
	u64 rest, promised;

	image->offset = (1 + sectors) * SECTOR;
	if (kernel->size <= image->offset)
		return refuse(kernel, load->problem, ENOEXEC,
			      "is truncated: it ends at byte 0x%" PRIx64
			      ", and its protected-mode part begins at 0x%" PRIx64,
			      kernel->size, image->offset);
	rest = kernel->size - image->offset;
	image->size = rest;
	if (!speaks(image, PROTOCOL_SYSSIZE))
		return 0;
	promised = (u64)image->header.syssize * PARAGRAPH;
	if (!promised)
		return refuse(
			kernel, load->problem, ENOEXEC,
			"is damaged: its header says that nothing is to be loaded (syssize 0)");
	if (promised > (speaks(image, PROTOCOL_PADDED) ? rest : align_up(rest, PARAGRAPH)))
		return refuse(kernel, load->problem, ENOEXEC,
			      "is truncated: its protected-mode part has %" PRIu64
			      " bytes, and %" PRIu64 " of them are there",
			      promised, rest);
	image->size = MIN(rest, promised);
	return 0;
}

/* LOAD-3: at pref_address if it can be moved there, else where it has always been. */
static void choose_address(const struct load *load, struct bzimage *image, u64 preferred, u64 align)
{
	u64 low = load->boot->memory->low;
	u64 limit = load->initrd_size ? load->initrd : low;
	u64 aligned;

	image->address = FIXED_ADDRESS;
	if (preferred < LAYOUT_KERNEL || preferred > limit)
		return;
	aligned = align_up(preferred, align);
	if (aligned <= limit && image->runtime_size <= limit - aligned)
		image->address = aligned;
}

/*
 * boot.rst, "init_size": the kernel will run at its load address aligned up, or
 * at pref_address where it cannot be moved. Linux never runs below its
 * pref_address though, wherever it was loaded, so that counts too.
 *
 * Tour 2.231: How much room does it need?
 */
static int plan(const struct load *load, struct bzimage *image)
{
	const struct file *kernel = load->boot->kernel;
	const struct setup_header *header = &image->header;
	bool movable = speaks(image, PROTOCOL_RELOCATABLE) && header->relocatable_kernel;
	u64 align = movable ? header->kernel_alignment : 1;
	u64 preferred = speaks(image, PROTOCOL_PREFERENCE) ? header->pref_address : 0;
	u64 init_size = speaks(image, PROTOCOL_PREFERENCE) ? header->init_size : 0;
	int err;

	if (!align || align & (align - 1))
		return refuse(kernel, load->problem, ENOEXEC,
			      "is damaged: its kernel_alignment 0x%" PRIx64
			      " is not a power of two",
			      align);
	image->runtime_size = MAX(init_size, image->size);
	choose_address(load, image, movable ? preferred : 0, align);
	image->runtime = MAX(align_up(image->address, align), preferred);
	err = load_claim(load, "protected-mode part", image->address, image->size);
	if (err)
		return err;
	return load_claim(load, "unpacked kernel (init_size)", image->runtime, image->runtime_size);
}

/*
 * The 64-bit entry is at a fixed place; the 32-bit one is in code32_start, in terms of the fixed
 * address.
 */
static int find_entry(const struct load *load, struct bzimage *image)
{
	const struct file *kernel = load->boot->kernel;
	u64 start = image->header.code32_start;

	image->is_64 =
		speaks(image, PROTOCOL_XLOADFLAGS) && image->header.xloadflags & XLF_KERNEL_64;
	if (image->is_64) {
		image->entry = image->address + ENTRY_64;
		if (image->size <= ENTRY_64)
			return refuse(kernel, load->problem, ENOEXEC,
				      "is damaged: its %" PRIu64
				      " bytes do not reach to its 64-bit entry, byte %u",
				      image->size, ENTRY_64);
		/* Where code32_start is read at all, it is to find out where the kernel was put. */
		image->header.code32_start = image->address;
		return 0;
	}
	if (start < FIXED_ADDRESS || start - FIXED_ADDRESS >= image->size)
		return refuse(kernel, load->problem, ENOEXEC,
			      "is damaged: it starts at 0x%" PRIx64
			      " (code32_start), outside of its own 0x%x-0x%" PRIx64,
			      start, FIXED_ADDRESS, FIXED_ADDRESS + image->size - 1);
	image->entry = image->address + (start - FIXED_ADDRESS);
	image->header.code32_start = image->entry;
	return 0;
}

static int place(const struct load *load, const struct bzimage *image)
{
	u64 max = speaks(image, PROTOCOL_CMDLINE_SIZE) ? image->header.cmdline_size
						       : COMMAND_LINE_MAX_DEFAULT;
	int err =
		load_place(load, "protected-mode part", image->address, image->offset, image->size);

	if (!err)
		err = load_place_rest(load, max);
	if (err)
		return err;
	bootparams_place(load, &image->header, image->header_len);
	return 0;
}

/*
 * Nothing touches the guest's memory before place(), when all that could be wrong has been
 * found not to be.
 *
 * Tour 2.232: Step by step
 */
int bzimage_load(struct load *load, struct cpu_state *cpu)
{
	struct bzimage image = {0};
	int err = read_header(load, &image);

	if (!err)
		err = measure(load, &image);
	if (!err)
		err = load_locate_initrd(load, speaks(&image, PROTOCOL_INITRD_MAX)
						       ? image.header.initrd_addr_max
						       : INITRD_MAX_DEFAULT);
	if (!err)
		err = plan(load, &image);
	if (!err)
		err = find_entry(load, &image);
	if (!err)
		err = place(load, &image);
	if (err)
		return err;
	if (image.is_64)
		entry_64(load, cpu, image.entry);
	else
		entry_32(load, cpu, image.entry);
	cpu->gpr[RSI] = BOOT_PARAMS;
	log_verbose("kernel %s: bzImage, boot protocol %u.%02u, %s-bit entry at 0x%" PRIx64
		    ", unpacks to 0x%" PRIx64 "-0x%" PRIx64,
		    load->boot->kernel->name, image.header.version >> 8,
		    image.header.version & 0xff, image.is_64 ? "64" : "32", image.entry,
		    image.runtime, image.runtime + image.runtime_size - 1);
	return 0;
}
