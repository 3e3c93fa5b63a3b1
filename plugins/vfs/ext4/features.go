package ext4

import (
	"fmt"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Features that old drivers may ignore (s_feature_compat).
const (
	compatDirPrealloc  = 0x1
	compatHasJournal   = 0x4
	compatExtAttr      = 0x8
	compatResizeInode  = 0x10
	compatDirIndex     = 0x20
	compatSparseSuper2 = 0x200
	compatFastCommit   = 0x400
	compatStableInodes = 0x800
	compatOrphanFile   = 0x1000
)

// Features without which nothing may be read (s_feature_incompat).
const (
	incompatCompression = 0x1
	incompatFiletype    = 0x2
	incompatRecover     = 0x4
	incompatJournalDev  = 0x8
	incompatMetaBG      = 0x10
	incompatExtents     = 0x40
	incompat64bit       = 0x80
	incompatMMP         = 0x100
	incompatFlexBG      = 0x200
	incompatEAInode     = 0x400
	incompatDirdata     = 0x1000
	incompatCsumSeed    = 0x2000
	incompatLargedir    = 0x4000
	incompatInlineData  = 0x8000
	incompatEncrypt     = 0x10000
	incompatCasefold    = 0x20000
)

// Features without which nothing may be written (s_feature_ro_compat).
const (
	roSparseSuper   = 0x1
	roLargeFile     = 0x2
	roBtreeDir      = 0x4
	roHugeFile      = 0x8
	roGdtCsum       = 0x10
	roDirNlink      = 0x20
	roExtraIsize    = 0x40
	roSnapshot      = 0x80
	roQuota         = 0x100
	roBigalloc      = 0x200
	roMetadataCsum  = 0x400
	roReplica       = 0x800
	roReadonly      = 0x1000
	roProject       = 0x2000
	roSharedBlocks  = 0x4000
	roVerity        = 0x8000
	roOrphanPresent = 0x10000
)

// What this driver reads, and what it writes.
const (
	incompatRead = incompatFiletype | incompatRecover | incompatMetaBG | incompatExtents | incompat64bit | incompatMMP |
		incompatFlexBG | incompatEAInode | incompatCsumSeed | incompatLargedir | incompatInlineData
	incompatWrite = incompatFiletype | incompatRecover | incompatMetaBG | incompatExtents | incompat64bit | incompatFlexBG |
		incompatCsumSeed
	roWrite = roSparseSuper | roLargeFile | roBtreeDir | roHugeFile | roGdtCsum | roDirNlink | roExtraIsize | roMetadataCsum |
		roProject | roOrphanPresent
	compatNoWrite = compatSparseSuper2
)

// names are what e2fsprogs call the features.
var (
	compatNames   = map[uint32]string{compatDirPrealloc: "dir_prealloc", 2: "imagic_inodes", compatHasJournal: "has_journal", compatExtAttr: "ext_attr", compatResizeInode: "resize_inode", compatDirIndex: "dir_index", 0x40: "lazy_bg", compatSparseSuper2: "sparse_super2", compatFastCommit: "fast_commit", compatStableInodes: "stable_inodes", compatOrphanFile: "orphan_file"}
	incompatNames = map[uint32]string{incompatCompression: "compression", incompatFiletype: "filetype", incompatRecover: "needs_recovery", incompatJournalDev: "journal_dev", incompatMetaBG: "meta_bg", incompatExtents: "extent", incompat64bit: "64bit", incompatMMP: "mmp", incompatFlexBG: "flex_bg", incompatEAInode: "ea_inode", incompatDirdata: "dirdata", incompatCsumSeed: "metadata_csum_seed", incompatLargedir: "large_dir", incompatInlineData: "inline_data", incompatEncrypt: "encrypt", incompatCasefold: "casefold"}
	roNames       = map[uint32]string{roSparseSuper: "sparse_super", roLargeFile: "large_file", roBtreeDir: "btree_dir", roHugeFile: "huge_file", roGdtCsum: "uninit_bg", roDirNlink: "dir_nlink", roExtraIsize: "extra_isize", roSnapshot: "snapshot", roQuota: "quota", roBigalloc: "bigalloc", roMetadataCsum: "metadata_csum", roReplica: "replica", roReadonly: "read-only", roProject: "project", roSharedBlocks: "shared_blocks", roVerity: "verity", roOrphanPresent: "orphan_present"}
)

// featureNames says bits by name.
func featureNames(bits uint32, names map[uint32]string, kind string) string {
	var s []string
	for i := range 32 {
		b := uint32(1) << i
		if bits&b == 0 {
			continue
		}
		n := names[b]
		if n == "" {
			n = fmt.Sprintf("%s bit %d", kind, i)
		}
		s = append(s, n)
	}
	return strings.Join(s, ", ")
}

// gate checks the features of a file system: an error if it cannot be read; why
// says what forbids writing, or is empty.
func (s *super) gate() (why string, err error) {
	if bad := s.incompat &^ incompatRead; bad != 0 {
		return "", fmt.Errorf("features not known: %s: %w", featureNames(bad, incompatNames, "incompat"), abi.EINVAL)
	}
	var w []string
	if bad := s.incompat &^ incompatWrite; bad != 0 {
		w = append(w, featureNames(bad, incompatNames, "incompat"))
	}
	if bad := s.roCompat &^ roWrite; bad != 0 {
		w = append(w, featureNames(bad, roNames, "ro_compat"))
	}
	if bad := s.compat & compatNoWrite; bad != 0 {
		w = append(w, featureNames(bad, compatNames, "compat"))
	}
	return strings.Join(w, ", "), nil
}
