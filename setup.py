"""Metadata of the package; tools are configured in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="rebar-gradients",
    version="0.1.0",
    description="Gradient estimators for models with discrete latent variables, in TensorFlow 2",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    packages=find_packages(include=["rebar", "rebar.*"]),
    package_data={"rebar": ["py.typed"]},
    python_requires=">=3.10,<3.14",
    install_requires=[
        "absl-py>=2.1",
        "keras>=3.10,<4",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "tensorflow>=2.21",
        "tqdm>=4.66",
    ],
    extras_require={
        "cluster": ["submitit>=1.5"],
        "tensorboard": ["tensorboard>=2.20"],
        "test": [
            "hypothesis>=6.100",
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "submitit>=1.5",
            "tensorboard>=2.20",
            "tensorflow-probability[tf]>=0.25",
        ],
    },
    entry_points={
        "console_scripts": [
            "rebar-compare = rebar.cli.compare:main",
            "rebar-train = rebar.cli.train:main",
            "rebar-download = rebar.cli.download:main",
            "rebar-analyze = rebar.cli.analyze:main",
            "rebar-draw = rebar.cli.draw:main",
            "rebar-sample = rebar.cli.draw:main",
            "rebar-sweep = rebar.cli.sweep:main",
        ]
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
