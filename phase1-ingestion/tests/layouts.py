"""Small files in the layout of the public data sets that people try first; each has a row that is refused."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd


def sparkov(file: Path) -> None:
    """fraudTrain.csv: an index without a name, cardholders, merchants with fraud_ before every name."""
    names = (
        ",trans_date_trans_time,cc_num,merchant,category,amt,first,last,gender,street,city,state,zip,lat,long,city_pop,"
        "job,dob,trans_num,unix_time,merch_lat,merch_long,is_fraud"
    )
    row = (
        '{n},2019-01-0{n} 00:00:18,2703186189652095,"fraud_Rippin, Kub and Mann",{category},{amount},Jennifer,Banks,F,'
        '561 Perry Cove,Moravian Falls,NC,28654,36.0788,-81.1781,3495,"Psychologist, counselling",1988-03-09,'
        "0b242abb623afc578575680df3065{n},1325376018,36.011293,-82.048315,{fraud}"
    )
    rows = [
        row.format(n=1, category="misc_net", amount="4.97", fraud=0),
        row.format(n=2, category="grocery_pos", amount="281.06", fraud=1),
        row.format(n=3, category="misc_net", amount="", fraud=0),
    ]
    file.write_text("\n".join([names, *rows]) + "\n")


def paysim(file: Path) -> None:
    """Steps of an hour; frauds of 0.00 exist."""
    file.write_text(
        "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud,"
        "isFlaggedFraud\n"
        "1,PAYMENT,9839.64,C1231006815,170136.0,160296.36,M1979787155,0.0,0.0,0,0\n"
        "743,CASH_OUT,850002.52,C1280323807,850002.52,0.0,C873221189,6510099.11,7360101.63,1,0\n"
        "1,CASH_OUT,0.0,C1305486145,0.0,0.0,C38997010,0.0,0.0,1,0\n"
    )


def ieee_cis(file: Path) -> None:
    """394 columns, most of them empty; amounts with three decimals."""
    names = [
        *[
            "TransactionID",
            "isFraud",
            "TransactionDT",
            "TransactionAmt",
            "ProductCD",
            "card1",
            "card2",
            "card3",
            "card4",
            "card5",
            "card6",
        ],
        *["addr1", "addr2", "dist1", "dist2", "P_emaildomain", "R_emaildomain"],
        *(f"C{n}" for n in range(1, 15)),
        *(f"D{n}" for n in range(1, 16)),
        *(f"M{n}" for n in range(1, 10)),
        *(f"V{n}" for n in range(1, 340)),
    ]
    tail = "," * (len(names) - 17)
    file.write_text(
        ",".join(names) + "\n"
        f"2987000,0,86400,68.5,W,13926,,150.0,discover,142.0,credit,315.0,87.0,19.0,,,{tail}\n"
        f"2987001,1,86401,31.191,C,2755,404.0,150.0,mastercard,102.0,credit,325.0,87.0,,,gmail.com,{tail}\n"
        f"2987002,0,soon,59.0,W,4663,490.0,150.0,visa,166.0,debit,330.0,87.0,287.0,,outlook.com,{tail}\n"
    )


def ulb(file: Path) -> None:
    """creditcard.csv: no cardholder, quoted names and classes; payments of 0 exist."""
    names = ["Time", *(f"V{n}" for n in range(1, 29)), "Amount", "Class"]
    values = ",".join(f"{n / 7 - 2:.15f}" for n in range(28))
    file.write_text(
        ",".join(f'"{name}"' for name in names)
        + f'\n0,{values},149.62,"0"\n0,{values},149.62,"0"\n172792,{values},217,"1"\n1,{values},0,"0"\n'
    )


def handbook(file: Path) -> None:
    """The Fraud Detection Handbook's frames, saved as Parquet."""
    frame = pd.DataFrame(
        {
            "TRANSACTION_ID": [0, 1, 2],
            "TX_DATETIME": pd.to_datetime(["2018-04-01 00:00:31", "2018-04-01 00:02:10", None]),
            "CUSTOMER_ID": [596, 4961, 2],
            "TERMINAL_ID": [3156, 3412, 1365],
            "TX_AMOUNT": [57.16, 81.51, 146.00],
            "TX_TIME_SECONDS": [31, 130, 476],
            "TX_TIME_DAYS": [0, 0, 0],
            "TX_FRAUD": [0, 1, 0],
            "TX_FRAUD_SCENARIO": [0, 2, 0],
        }
    )
    frame.to_parquet(file)


# By the name of the map: how the file is made, and its ending.
LAYOUTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "sparkov": (sparkov, ".csv"),
    "paysim": (paysim, ".csv"),
    "ieee-cis": (ieee_cis, ".csv"),
    "ulb": (ulb, ".csv"),
    "handbook": (handbook, ".parquet"),
}
